"""Key sets of others (RFC 7517), read strictly: which of their keys may verify, and for which algorithm.

A key that is meant for something else, or is not well-formed, is left out, as section 5 asks; so are two
different keys with one `kid`. A set that is no JSON, or too large, is refused as a whole. Fetches nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.jose.claims import MAX_KEY_ID_CHARS
from identity_service.jose.key_members import check_members
from identity_service.jose.keys import PRIVATE_MEMBERS, JwsKey, is_for, load, load_checked
from identity_service.jose.strict import JsonObject, parse_around_faults, parse_object

MAX_SET_BYTES: Final = 64 * 1024
MAX_SET_KEYS: Final = 100
_SPIFFE_USE: Final = "jwt-svid"
"""SPIFFE's word for `sig` in trust bundles (SPIFFE Trust Domain and Bundle, section 4.2.2)."""
_SPIFFE_CERTIFICATES: Final = "x509-svid"
"""Of the authorities of certificates, which are in the same bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The keys of one set."""

    keys: Mapping[str, JwsKey]
    """By `kid`: those that may verify."""
    unused: Sequence[str] = ()
    """Of each other key, which one it is and why it is left out. May hold text of the set, not escaped."""


def read_key_set(data: bytes, algorithms: Sequence[str]) -> KeySet:
    """Find the keys that may verify with one of these algorithms. Raises ValueError.

    A key that names no `alg` is for the first of `algorithms` that it can be for: each has one. The same key
    twice counts once.
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
    """The members of a JWK that say something.

    Some platforms write every member that their software knows, as null or an empty text where the key has
    none: `"use": null`, or `"crv": ""` of an RSA key.
    """
    return {name: value for name, value in jwk.items() if value is not None and value != ""}


def open_public_key(jwk: str) -> JwsKey:
    """A key as a client registers it, with `kid` and `alg`. Raises ValueError."""
    algorithm = parse_object(jwk.encode()).get("alg")
    if algorithm not in ISSUER_ALGORITHMS:
        raise ValueError("the key names no algorithm that is accepted")
    return load(jwk, algorithm, private=False)


def _parse(data: bytes) -> JsonObject:
    """Parse a set. Raises ValueError, which tells a file that is being written from one that is no JSON."""
    if not data.strip():
        raise ValueError("the key set is empty")
    try:
        return parse_around_faults(data)
    except json.JSONDecodeError as error:
        if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
            raise ValueError("the key set ends in the middle: it was cut off, or is being written") from None
        raise ValueError(f"the key set is no JSON: {error}") from None


def _read_key(member: Any, algorithms: Sequence[str]) -> JwsKey:
    """Open one key. Raises ValueError, which says why it may not verify here."""
    if not isinstance(member, dict):
        raise ValueError("it is no JSON object, or has a member twice")  # noqa: TRY004  # a value of a set
    jwk = stated_members(member)
    if jwk.get("use") == _SPIFFE_CERTIFICATES:  # has no `kid`, and needs none
        raise ValueError("for X.509-SVIDs, not for tokens")
    key_id = jwk.get("kid")
    if not isinstance(key_id, str) or len(key_id) > MAX_KEY_ID_CHARS:
        raise ValueError(f"it has no `kid` of 1 to {MAX_KEY_ID_CHARS} characters")
    if not PRIVATE_MEMBERS.isdisjoint(jwk):
        raise ValueError("its secret part was published, so it proves nothing; the issuer must replace it")
    if jwk.get("use") == _SPIFFE_USE:
        jwk = jwk | {"use": "sig"}
    check_members(jwk)  # once, not for each algorithm
    for algorithm in algorithms:
        if algorithm in ISSUER_ALGORITHMS and is_for(jwk, algorithm):
            return load_checked(jwk, algorithm, private=False)
    raise ValueError(f"it is for none of the algorithms that are accepted: {', '.join(algorithms)}")


def _name(index: int, member: Any) -> str:
    key_id = member.get("kid") if isinstance(member, dict) else None
    return key_id if isinstance(key_id, str) and 0 < len(key_id) <= MAX_KEY_ID_CHARS else f"keys[{index}]"
