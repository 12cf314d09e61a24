"""identity-service: proves who a caller is, signs a short-lived token, checks it and takes it back.

Read `bootstrap.py` first: it wires every part that there is.
"""
