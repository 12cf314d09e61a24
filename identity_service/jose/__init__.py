"""JWS, JWE and JWK: the only package that imports `jwt`, `joserfc` and `cryptography`.

Knows only the domain.
"""
