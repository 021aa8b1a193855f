"""Checkpoints broken in every way, the errors that libraries print for them, and what is true of each.

`python -m tests.explanation.blind` (or `make blind`) scores what `explain` and `check` say of them. The set was written
before the engine that it measures, and nothing may be tuned to a single case of it.
"""
