"""The command line: dispatch, usage and sweeps; imports nothing heavy until a verb runs."""
