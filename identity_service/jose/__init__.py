"""JWS, JWE and JWK: the only package that imports `jwt`, `joserfc` and `cryptography`.

The package knows only the domain.
"""
