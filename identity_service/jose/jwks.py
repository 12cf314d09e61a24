"""JWK Sets of other issuers (RFC 7517), read strictly: which keys may verify, and with which algorithm.

As section 5 asks, a key that is malformed or meant for another purpose is left out; so are different keys
with one `kid`. A set that is not JSON, or is too large, is refused as a whole. The module fetches nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.jose.claims import MAX_KEY_ID_CHARS
from identity_service.jose.keys import PRIVATE_MEMBERS, JwsKey, is_for, load, load_checked
from identity_shared.key_members import check_members
from identity_shared.strict import JsonObject, parse_around_faults, parse_object

MAX_SET_BYTES: Final = 64 * 1024
MAX_SET_KEYS: Final = 100
_MAX_REASONS: Final = 5
"""The largest number of unusable keys that one log event describes."""
_SPIFFE_USE: Final = "jwt-svid"
"""The value of `use` that SPIFFE trust bundles have instead of `sig` (SPIFFE Trust Domain and Bundle, section
4.2.2)."""
_SPIFFE_CERTIFICATES: Final = "x509-svid"
"""The value of `use` of certificate authorities, which are in the same bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The usable keys of a JWK Set, and the reasons why its other keys are not used."""

    keys: Mapping[str, JwsKey]
    """The keys that may verify, by `kid`."""
    unused: Sequence[str] = ()
    """A text for each other key, which names the key and the reason why it is left out. It may quote the set
    without escaping."""

    def summary(self) -> Mapping[str, object]:
        """Return how many keys can be used, and for the first five others why they cannot, for the log."""
        if not self.unused:
            return {"keys": len(self.keys)}
        reasons = list(self.unused[:_MAX_REASONS])
        return {"keys": len(self.keys), "unused": len(self.unused), "why": reasons}


def read_key_set(data: bytes, algorithms: Sequence[str]) -> KeySet:
    """Return the keys of a JWK Set that may verify with one of these algorithms. Raises ValueError.

    A key without `alg` is for the first of `algorithms` that fits it: each key has one algorithm. A key that
    is in the set twice counts once.
    """
    if len(data) > MAX_SET_BYTES:
        raise ValueError("the key set is longer than 64 KiB")
    members = _parse(data).get("keys")
    if not isinstance(members, list):
        raise ValueError("the key set has no list of keys")  # noqa: TRY004  # a value of a set
    if len(members) > MAX_SET_KEYS:
        raise ValueError(f"the key set has more than {MAX_SET_KEYS} keys")
    found: dict[str, JwsKey] = {}
    unused: list[str] = []
    ambiguous: set[str] = set()
    for index, member in enumerate(members):
        try:
            key = _read_key(member, algorithms)
        except ValueError as error:
            unused.append(f"{_name(index, member)}: {error}")
            continue
        if not key.equals(found.setdefault(key.key_id, key)):
            ambiguous.add(key.key_id)
    for key_id in sorted(ambiguous):
        del found[key_id]
        unused.append(f"{key_id}: several keys have this `kid`; the issuer must give each its own")
    return KeySet(keys=found, unused=tuple(unused))


def stated_members(jwk: JsonObject) -> JsonObject:
    """Return the members of a JWK that have a value.

    Some platforms write every member that their software knows, as null or an empty string if the key has
    none: `"use": null`, or `"crv": ""` of an RSA key.
    """
    return {name: value for name, value in jwk.items() if value is not None and value != ""}


def open_public_key(jwk: str) -> JwsKey:
    """Return a public key from the JWK that a client registers, with `kid` and `alg`. Raises ValueError."""
    algorithm = parse_object(jwk.encode()).get("alg")
    if algorithm not in ISSUER_ALGORITHMS:
        raise ValueError("the key names no algorithm that is accepted")
    return load(jwk, algorithm, private=False)


def _parse(data: bytes) -> JsonObject:
    """Parse a JWK Set.

    Raises ValueError; the message distinguishes a file that is still being written from text that is not
    JSON.
    """
    if not data.strip():
        raise ValueError("the key set is empty")
    try:
        return parse_around_faults(data)
    except json.JSONDecodeError as error:
        if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
            raise ValueError("the key set ends in the middle: it was cut off, or is being written") from None
        raise ValueError(f"the key set is not JSON: {error}") from None


def _read_key(member: Any, algorithms: Sequence[str]) -> JwsKey:
    """Return a key of the set. Raises ValueError, which says why the key may not verify here."""
    if not isinstance(member, dict):
        raise ValueError("it is not a JSON object with distinct members")  # noqa: TRY004  # a value of a set
    jwk = stated_members(member)
    if jwk.get("use") == _SPIFFE_CERTIFICATES:  # such a key needs no `kid`
        raise ValueError("for X.509-SVIDs, not for tokens")
    key_id = jwk.get("kid")
    if not isinstance(key_id, str) or len(key_id) > MAX_KEY_ID_CHARS:
        raise ValueError(f"it has no `kid` of 1 to {MAX_KEY_ID_CHARS} characters")
    if not PRIVATE_MEMBERS.isdisjoint(jwk):
        raise ValueError(
            "its private part was published, so it authenticates nothing; the issuer must replace it"
        )
    if jwk.get("use") == _SPIFFE_USE:
        jwk = jwk | {"use": "sig"}
    check_members(jwk)  # here, so that it is done once and not for each algorithm
    for algorithm in algorithms:
        if algorithm in ISSUER_ALGORITHMS and is_for(jwk, algorithm):
            return load_checked(jwk, algorithm, private=False)
    raise ValueError(f"it is not for an accepted algorithm: {', '.join(algorithms)}")


def _name(index: int, member: Any) -> str:
    key_id = member.get("kid") if isinstance(member, dict) else None
    return key_id if isinstance(key_id, str) and 0 < len(key_id) <= MAX_KEY_ID_CHARS else f"keys[{index}]"
