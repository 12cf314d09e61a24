"""Principals as a file declares them: reads it, finds what is different, and makes it so."""
