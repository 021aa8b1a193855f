"""The recogniser of folders: one table of the layouts that tools write, and what in each is the checkpoint.

A layout is one entry of `table.TABLE`: its markers, what is opened, what lies beside it, what is refused with which
next step. A new one is a function that looks at a `Folder`, in the file of its family (`hub.py`, `training.py`,
`parallel.py`), and its entry in the table; docs/formats.md is made from it. `parts.py` tells a file that is a part of
a checkpoint from a whole one. Nothing is imported here: a single file needs `parts.py` alone.
"""
