"""Code that the server and the Python client share: strict parsing, checks of keys, a bounded cache.

It imports the standard library only, so that a server process that uses it does not load the client as well,
which would take 1.2 MB of memory.
"""
