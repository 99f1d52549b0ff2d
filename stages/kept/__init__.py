"""What DVC keeps of a run: its own small files, and the outputs in workspace, cache and remote."""
