"""Files and folders as tools write them, each with the truth about it: what opens, what is refused, what is a part."""
