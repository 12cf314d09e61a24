"""The converters of claims: of a verified token to its message, of a request's extra claims to JSON values.

Extra claims are bounded in depth, size and names.
"""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from identity_service.domain.errors import FieldViolation, InvalidRequestError
from identity_service.domain.tokens import MAX_EXTRA_CLAIMS_BYTES, RESERVED_CLAIMS, AccessToken, Actor
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2

_MAX_DEPTH: Final = 8
_EXACT: Final = 2**53
"""The largest whole number up to which a double holds every whole number exactly (RFC 7493 section 2.2)."""


def render(token: AccessToken) -> bytes:
    """Return a serialized VerifyResponse that holds only the field `verified`: the claims of this token."""
    response = pb.VerifyResponse()
    # One assignment per field, as in `from_token_set` (bar S2).
    verified = response.verified
    verified.issuer = token.issuer
    verified.subject = token.subject
    verified.audiences.extend(token.audiences)
    verified.client_id = token.client_id
    verified.scopes.extend(token.scopes)
    verified.token_id = token.token_id
    _set_time(verified.issue_time, token.issue_time)
    _set_time(verified.expire_time, token.expire_time)
    if token.session_id is not None:
        verified.session_id = token.session_id
    if token.auth_time is not None:
        _set_time(verified.auth_time, token.auth_time)
    if token.actors:
        verified.actors.extend(map(_from_actor, token.actors))
    if token.may_act is not None:
        verified.may_act.CopyFrom(_from_actor(token.may_act))
    if token.certificate_sha256 is not None:
        verified.certificate_sha256 = token.certificate_sha256
    if token.key_sha256 is not None:
        verified.dpop_key_sha256 = token.key_sha256
    if token.claims:
        verified.claims.update(cast("Mapping[str, Any]", token.claims))
    return response.SerializeToString()


def _set_time(field: Timestamp, time: datetime) -> None:
    """Set a field to a time, which is nearly always a whole second; `FromDatetime` takes 2 µs for that."""
    if time.microsecond:
        field.FromDatetime(time)
    else:
        field.seconds = int(time.timestamp())


def _from_actor(actor: Actor) -> token_pb2.Actor:
    return token_pb2.Actor(subject=actor.subject, client_id=actor.client_id)


def to_claims(struct: Struct) -> Mapping[str, object]:
    """Convert the extra claims of a request.

    Raises InvalidRequestError if a name is reserved, the claims have more than 2 KiB as JSON or more than 8
    levels, or a number is not finite.
    """
    taken = sorted(RESERVED_CLAIMS & set(struct.fields))
    if taken:
        raise InvalidRequestError(
            *(FieldViolation(field=f"claims.{n}", description="is set by the service only") for n in taken)
        )
    claims = {name: _plain(value, 2) for name, value in struct.fields.items()}
    if len(json.dumps(claims, ensure_ascii=False).encode()) > MAX_EXTRA_CLAIMS_BYTES:
        raise InvalidRequestError.of("claims", f"must have at most {MAX_EXTRA_CLAIMS_BYTES} bytes as JSON")
    return claims


def _plain(value: Value, depth: int) -> object:
    """Return the JSON value; `depth` is its level if it is an object or a list."""
    kind = value.WhichOneof("kind")
    if depth > _MAX_DEPTH and kind in ("struct_value", "list_value"):
        raise InvalidRequestError.of("claims", f"must be at most {_MAX_DEPTH} levels deep")
    match kind:
        case "struct_value":
            return {n: _plain(v, depth + 1) for n, v in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(v, depth + 1) for v in value.list_value.values]
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "number_value":
            return _number(value.number_value)
        case _:
            return None


def _number(number: float) -> float | int:
    """Return a whole number as int if the double holds it exactly, since Struct has only doubles."""
    if not math.isfinite(number):
        raise InvalidRequestError.of("claims", "must hold finite numbers only")
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number
