"""What differs between two checkpoints: `comparing.diff`, and what it is made of."""
