"""The command line: says what happened to people or, with --json, to scripts. Owns no rule of its own."""
