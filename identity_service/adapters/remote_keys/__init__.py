"""The public keys of trusted issuers, from a URL, a file, or the issuer's record."""
