"""Stand-ins for platforms whose tokens are credentials, made from the facts of the platforms' own sources."""
