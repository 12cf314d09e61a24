"""The encrypted examples of RFC 7516, 7520 and 8037: the library decrypts them, the service refuses all.

None of them has the form of the service's tokens, so each one shows another algorithm, or `zip`, that the
service does not accept.
"""

import json
import warnings
from typing import Any

import pytest
from joserfc import jwe
from joserfc.jwk import JWKRegistry, OctKey

from identity_client import DecryptionKey, NotOpenableError
from identity_service.domain.ids import KeyId
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.tokens import Rejected, RejectionReason
from identity_service.jose.access_tokens import AccessTokenCodec
from identity_service.jose.encryption_keys import ENCRYPTION_ALGORITHMS, generate_service_key
from identity_service.jose.keys import GeneratedKey
from identity_shared.strict import decode_base64url
from tests.unit.jose.conftest import ISSUER, Ring
from tests.unit.jose.vectors import VECTORS, needs_vectors, vector

pytestmark = needs_vectors


def examples() -> dict[str, dict[str, Any]]:
    """Yield `key` (or `pwd`), `plaintext` and `compact` of each example, with the section that has it."""
    files = sorted((VECTORS / "jose-cookbook/jwe").glob("*.json"))
    found = {f"RFC 7520 {f.name.split('.')[0].replace('_', '.')}": json.loads(f.read_text()) for f in files}
    cookbook = {
        name: one["input"] | {"compact": one["output"]["compact"]}
        for name, one in found.items()
        if "compact" in one["output"]
    }
    rfc7516 = [case for case in vector("rfc/rfc7516_7519_9068.json")["rfc7516"] if "compact" in case]
    agreed = vector("jose-cookbook/curve25519/ecdh-es.json")
    x25519 = {"RFC 8037 A.6": agreed["input"] | {"compact": agreed["output"]["compact"]}}
    return cookbook | x25519 | {f"RFC 7516 {case['id']}": case for case in rfc7516}


def header(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(decode_base64url(text.split(".")[0]))
    return found


def opened_by_the_library(example: dict[str, Any]) -> str:
    said = header(example["compact"])
    key = example.get("key") and JWKRegistry.import_key(example["key"])
    algorithms = [said["alg"], said["enc"], *([said["zip"]] if "zip" in said else [])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of RSA1_5
        registry = jwe.JWERegistry(algorithms=algorithms, strict_check_header=False)
        opened = jwe.decrypt_compact(
            example["compact"], key or OctKey.import_key(example["pwd"]), registry=registry
        )
    return (opened.plaintext or b"").decode()


def test_the_examples_are_valid_and_none_is_accepted_here(generated: dict[str, GeneratedKey]) -> None:
    found = examples()
    assert len(found) >= 13

    for name, example in found.items():
        said = header(example["compact"])
        assert opened_by_the_library(example) == example["plaintext"], name
        service = AccessTokenCodec(
            KnowsEveryKey((generated["ES256"],), generate_service_key()), IssuerNames(ISSUER)
        )
        answer = service.read(example["compact"])
        assert isinstance(answer, Rejected), name
        assert answer.reason is RejectionReason.UNDECRYPTABLE, name
        if said["alg"] in ENCRYPTION_ALGORITHMS:
            audience = DecryptionKey(example["key"], algorithm=said["alg"])
            with pytest.raises(NotOpenableError):
                audience.decrypt(example["compact"])
        elif "key" in example:
            with pytest.raises(ValueError, match="alg"):
                DecryptionKey(example["key"], algorithm=said["alg"])


class KnowsEveryKey(Ring):
    """A key source that has the example's key under every `kid`."""

    def decrypting(self, key_id: str) -> Any:
        assert self.encryption is not None
        return super().decrypting(self.encryption.key_id) if KeyId(key_id) else None
