"""One module a verb of the command line: `add_parser` declares its arguments, `run` does the work."""
