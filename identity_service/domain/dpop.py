"""DPoP proofs (RFC 9449): what a request shows, what a proof says, and the rules by which the two must agree.

The module parses no JWT and verifies no signature, and it does not know which proofs were used before.

A nonce (section 8) is derived from a key that every process has:

    base64url( HMAC-SHA-256( refresh key, context ‖ number of the five-minute interval )[:16] )

No process keeps state, and all agree, since the refresh keys are in the change log. Refresh tokens are MACs
under the same keys, but of inputs that begin with another context, so neither can be taken for the other.
"""

import hmac
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import IPv6Address
from typing import Final, Protocol

from identity_service.domain.credential_errors import DpopNonceRequiredError, DpopProofRefusedError
from identity_service.domain.ids import base64url
from identity_service.domain.secret import Secret

PROOF_VALIDITY: Final = timedelta(seconds=60)
"""The time after its `iat` for which a proof is valid."""
NONCE_INTERVAL: Final = 300
"""The seconds after which there is a new nonce. The one before is accepted for as long again."""
_NONCE_BYTES: Final = 16
_CONTEXT: Final = b"identityapi.v1 DPoP nonce\0"

_URI: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9._-]{1,255}|\[[0-9a-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{0,5}))?"
    r"(?P<path>(?:/(?:[a-z0-9._~!$&'()*+,;=:@/-]|%[0-9a-f]{2})*)?)"
    r"(?:[?#][!-~]*)?",
    re.IGNORECASE | re.ASCII,
)
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedProof:
    """A proof as a request shows it, unverified, with the facts about the request that it must state."""

    jwt: Secret
    method: str
    """The HTTP method, which `htm` must be."""
    uris: tuple[str, ...]
    """The URIs that the request may be for, as `normalised_uri` returns them; `htu` must be one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DpopProof:
    """The claims of a proof whose signature verified with the key that it holds."""

    key_sha256: bytes
    """The JWK SHA-256 thumbprint (RFC 7638) of the key, 32 bytes: `jkt` in a token that is bound to it."""
    token_id: str = field(repr=False)
    method: str
    uri: str
    issue_time: datetime
    access_token_sha256: bytes | None = None
    """The SHA-256 of the access token that the proof is for (`ath`); None = the proof has no `ath`."""
    nonce: str | None = None


class DpopProofReader(Protocol):
    """A parser of DPoP proofs, which also verifies their signatures."""

    def read(self, jwt: Secret) -> DpopProof:
        """Parse a proof strictly, and verify its signature with the public key in its header.

        Raises DpopProofRefusedError.
        """


def check_proof(
    proof: DpopProof,
    presented: PresentedProof,
    *,
    now: datetime,
    leeway: timedelta,
    nonces: Sequence[str] = (),
    access_token: str | None = None,
) -> None:
    """Check that a proof is for this request, by RFC 9449 section 4.3.

    Args:
        proof: the claims of the proof.
        presented: the request.
        now: the wall-clock time.
        leeway: the largest difference between the clock of the client and this one.
        nonces: the accepted nonces, the current one first; the proof must have one of them. Empty = none is
            needed, and one that the proof has is ignored.
        access_token: the access token that is shown with the proof, whose digest `ath` must be; None = no
            token is shown, and an `ath` is ignored.

    Raises DpopProofRefusedError, and DpopNonceRequiredError if only the nonce is wrong.
    """
    if proof.method != presented.method:
        raise DpopProofRefusedError("its htm is not the method of this request")
    if _normal_form(proof.uri) not in presented.uris:
        raise DpopProofRefusedError(
            "its htu is not the URI of this request: name the endpoint as the metadata does, or for gRPC "
            "https://AUTHORITY/package.Service/Method with an authority of `dpop_authorities`"
        )
    if not -leeway <= now - proof.issue_time < PROOF_VALIDITY + leeway:
        raise DpopProofRefusedError(
            "its iat is in the future, or more than 60 s ago: make one for each request, and check the clock"
        )
    if access_token is not None:
        digest = sha256(access_token.encode()).digest()
        if proof.access_token_sha256 is None or not hmac.compare_digest(proof.access_token_sha256, digest):
            raise DpopProofRefusedError("its ath is not the SHA-256 of the access token")
    if nonces and not _is_one_of(proof.nonce or "", nonces):
        raise DpopNonceRequiredError(nonces[0])


def _normal_form(uri: str) -> str:
    try:
        return normalised_uri(uri)
    except ValueError as error:
        raise DpopProofRefusedError(f"its htu {error}") from None


def _is_one_of(text: str, accepted: Sequence[str]) -> bool:
    data = text.encode()
    return any(hmac.compare_digest(data, one.encode()) for one in accepted)


def accepted_nonces(keys: Sequence[bytes], unix: float) -> tuple[str, ...]:
    """Return the nonces of this interval and the one before under each key, the current one first.

    `keys` are the refresh keys that are valid, the one in use first; `unix` is the time in Unix seconds.
    """
    interval = int(unix // NONCE_INTERVAL)
    return tuple(_derive(key, number) for number in (interval, interval - 1) for key in keys)


def _derive(key: bytes, interval: int) -> str:
    mac = hmac.new(key, _CONTEXT + struct.pack(">Q", interval), sha256)
    return base64url(mac.digest()[:_NONCE_BYTES])


def normalised_uri(text: str) -> str:
    """Return an http or https URI in its normal form, without query and fragment (RFC 9449 section 4.3).

    Two URIs that RFC 3986 sections 6.2.2 and 6.2.3 call equivalent have one normal form: the case of scheme
    and host, the default port, percent-encoding, dot segments and an empty path do not matter, nor does the
    spelling of an IPv6 address. Raises ValueError for a text that is not such a URI, and for one with a user
    or password, with a host that is percent-encoded or not ASCII, or with a zone (RFC 6874).
    """
    found = _URI.fullmatch(text)
    if found is None:
        raise ValueError("must be an absolute http or https URI without user and password")
    scheme = found["scheme"].lower()
    return f"{scheme}://{_host(found['host'].lower())}{_port(scheme, found['port'])}{_path(found['path'])}"


def _host(host: str) -> str:
    if not host.startswith("["):
        return host
    try:
        return f"[{IPv6Address(host[1:-1])}]"
    except ValueError:
        raise ValueError("must have an IPv6 address in its brackets") from None


def _port(scheme: str, text: str | None) -> str:
    """Return the port with its colon; empty if it is the default one."""
    port = int(text) if text else _DEFAULT_PORTS[scheme]
    if port > 0xFFFF:
        raise ValueError("must have a port of at most 65535")
    return "" if port == _DEFAULT_PORTS[scheme] else f":{port}"


def _path(text: str) -> str:
    """Return the path with unreserved characters decoded, and then without dot segments."""
    kept: list[str] = []
    segments = _ENCODED.sub(_decoded, text).split("/")[1:] or [""]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _decoded(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if _UNRESERVED.fullmatch(character) else found[0].upper()
