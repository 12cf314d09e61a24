"""The `identity` command line: prints results as text or, with --json, as JSON. Holds no business rules."""
