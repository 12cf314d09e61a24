"""Values for the tests of the command line."""

JWK = {
    "kty": "OKP",
    "crv": "Ed25519",
    "kid": "k1",
    "alg": "EdDSA",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}
