"""Checkpoints and more than one process: shards of DTensor parameters."""
