"""Measures signing, reading and unwrapping by algorithm, and the bare primitive for comparison.

Run it with `python -m benchmarks.algorithms`.

The primitive is PyJWT's algorithm (for ML-DSA: the one of this project) with the same key and message, which
adds almost nothing to `cryptography`. In each round the primitive and the service take turns; the figures are
medians.
"""

import argparse
import json
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from identity_service.domain.errors import NoSigningKeyError
from identity_service.domain.ids import PrincipalId, TokenId
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.keys import KeyPurpose, StoredKey
from identity_service.domain.ports import DecryptingKey, EncryptingKey, SigningKey, VerifyingKey
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import AccessToken
from identity_service.jose.access_tokens import AccessTokenCodec
from identity_service.jose.keys import ALGORITHMS
from identity_service.jose.sealing import Sealer
from identity_service.jose.vault import Vault

ISSUER: Final = "https://identity.example"
_ROUNDS: Final = 50
_SECONDS: Final = 0.005
"""The length of one measurement in seconds."""


class OneKey:
    """An implementation of the port KeySource with one key."""

    def __init__(self, vault: Vault, stored: StoredKey) -> None:
        self._signing = vault.open_signing(stored)
        self.verifying: Mapping[str, VerifyingKey] = {stored.key_id: vault.open_verifying(stored)}

    def signing(self) -> SigningKey:
        return self._signing

    def encrypting(self) -> EncryptingKey:
        raise NoSigningKeyError("these tokens are signed only")

    def decrypting(self, key_id: str) -> DecryptingKey | None:
        del key_id
        return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.algorithms")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = {name: measure(name, arguments.rounds) for name in ALGORITHMS}
    if arguments.json:
        sys.stdout.write(f"{json.dumps(found, indent=2)}\n")
        return 0
    columns = list(next(iter(found.values())))
    sys.stdout.write(f"| µs | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}\n")
    for name, figures in found.items():
        values = " | ".join(f"{figures[column]:,.0f}" for column in columns)
        sys.stdout.write(f"| {name} | {values} |\n")
    return 0


def measure(algorithm: str, rounds: int) -> Mapping[str, float]:
    """Return the microseconds of each operation, by its name."""
    vault = Vault(Sealer(Secret(secrets.token_urlsafe(32))))
    stored = vault.make(KeyPurpose.SIGN, algorithm, datetime.now(UTC))
    keys = OneKey(vault, stored)
    codec = AccessTokenCodec(keys, IssuerNames(ISSUER))
    token = a_token()
    text = codec.sign(token)
    signed, _, signature = text.rpartition(".")
    message = signed.encode()
    raw_sign, raw_verify = primitive(keys.signing(), message)
    work: dict[str, Callable[[], object]] = {
        "sign": lambda: codec.sign(token),
        "primitive signs": raw_sign,
        "read": lambda: codec.read(text),
        "primitive verifies": raw_verify,
        "unwrap": lambda: vault.open_signing(stored),
    }
    assert isinstance(codec.read(text), AccessToken), "the token that is timed must be a good one"
    assert signature
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, call in work.items():
            times[name].append(microseconds(call))
    return {name: statistics.median(found) for name, found in times.items()}


def primitive(key: SigningKey, message: bytes) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return two functions that sign and verify with the key, and do nothing else."""
    inner: Any = key  # its private attributes are the bare algorithm and key
    algorithm, private = inner._algorithm, inner._key  # noqa: SLF001
    signature = algorithm.sign(message, private)
    public = private.public_key() if hasattr(private, "public_key") else private
    return lambda: algorithm.sign(message, private), lambda: algorithm.verify(message, public, signature)


def microseconds(call: Callable[[], object]) -> float:
    """Return the mean time of one call, over as many calls as fit into `_SECONDS`."""
    begun, calls = time.perf_counter(), 0
    while (now := time.perf_counter()) - begun < _SECONDS or not calls:
        call()
        calls += 1
    return (now - begun) / calls * 1e6


def a_token() -> AccessToken:
    now = datetime.now(UTC).replace(microsecond=0)
    return AccessToken(
        token_id=TokenId(secrets.token_urlsafe(16)),
        issuer=ISSUER,
        subject=PrincipalId("reports"),
        client_id=PrincipalId("reports"),
        audiences=("api",),
        scopes=("read", "write"),
        issue_time=now,
        expire_time=now + timedelta(minutes=15),
    )


if __name__ == "__main__":
    raise SystemExit(main())
