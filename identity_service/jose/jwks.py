"""Key sets of others (RFC 7517), read strictly: which of their keys may verify, and for which algorithm.

A key that is meant for something else is passed over, as section 5 asks; a set that is not well-formed, too
large or ambiguous is refused as a whole. Fetches nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.jose.claims import MAX_KEY_ID_CHARS
from identity_service.jose.key_members import check_members
from identity_service.jose.keys import PRIVATE_MEMBERS, JwsKey, load, load_checked
from identity_service.jose.strict import JsonObject, parse_object

MAX_SET_BYTES: Final = 64 * 1024
MAX_SET_KEYS: Final = 100
_SPIFFE_USE: Final = "jwt-svid"
"""SPIFFE's word for `sig` in trust bundles (SPIFFE Trust Domain and Bundle, section 4.2.2)."""


def read_key_set(data: bytes, algorithms: Sequence[str]) -> Mapping[str, JwsKey]:
    """The keys by `kid` that may verify with one of these algorithms. Raises ValueError.

    A key that names no `alg` is for the first of `algorithms` that it can be for: each has one.
    """
    if len(data) > MAX_SET_BYTES:
        raise ValueError("the key set is longer than 64 KiB")
    members = parse_object(data).get("keys")
    if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
        raise ValueError("the key set has no list of keys")
    if len(members) > MAX_SET_KEYS:
        raise ValueError(f"the key set has more than {MAX_SET_KEYS} keys")
    found: dict[str, JwsKey] = {}
    for member in members:
        key = _read_key(member, algorithms)
        if key is None:
            continue
        if key.key_id in found:
            raise ValueError("two keys of the set have the same kid")
        found[key.key_id] = key
    return found


def open_public_key(jwk: str) -> JwsKey:
    """A key as a client registers it, with `kid` and `alg`. Raises ValueError."""
    algorithm = parse_object(jwk.encode()).get("alg")
    if algorithm not in ISSUER_ALGORITHMS:
        raise ValueError("the key names no algorithm that is accepted")
    return load(jwk, algorithm, private=False)


def _read_key(jwk: JsonObject, algorithms: Sequence[str]) -> JwsKey | None:
    """The key, or None where it may not verify here."""
    key_id = jwk.get("kid")
    if not isinstance(key_id, str) or not 0 < len(key_id) <= MAX_KEY_ID_CHARS:
        return None
    if not PRIVATE_MEMBERS.isdisjoint(jwk):
        return None  # a key whose secret part everybody can read proves nothing
    if jwk.get("use") == _SPIFFE_USE:
        jwk = jwk | {"use": "sig"}
    try:
        check_members(jwk)  # once, not for each algorithm
    except ValueError:
        return None
    for algorithm in algorithms:
        if algorithm in ISSUER_ALGORITHMS:
            try:
                return load_checked(jwk, algorithm, private=False)
            except ValueError:
                continue
    return None
