"""A module per command of the command line: its options and what the user wants done."""
