"""One module per case: ``cases(workshop)`` returns what to run, the module's name selects it."""
