"""Where the values of the settings come from, and how they are read and checked."""
