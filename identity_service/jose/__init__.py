"""JWS, JWE and JWK: the only importer of `jwt`, `joserfc` and `cryptography`. Knows the domain only."""
