"""Find the rules that turn one signature into another, from names and shapes alone."""
