"""The `identity` command line: prints results as text or, with --json, as JSON.

The package holds no business rules.
"""
