"""Checkpoints and live modules: load, check, freeze, parameter groups."""
