"""What Matplotlib draws."""
