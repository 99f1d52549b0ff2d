"""Where data comes from, and what it looks like when it arrives."""
