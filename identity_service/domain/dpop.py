"""DPoP proofs (RFC 9449): what a request shows, what a proof says, and the rules by which the two must agree.

The module parses no JWT and verifies no signature, and it does not know which proofs were used before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from identity_service.domain.secret import Secret

PROOF_VALIDITY: Final = timedelta(seconds=60)
"""The time after its `iat` for which a proof is valid."""


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
        nonces: the nonces of which the proof must have one, the current one first; empty = none is needed,
            and one that the proof has is ignored.
        access_token: the access token that is shown with the proof, whose digest `ath` must be; None = no
            token is shown, and an `ath` is ignored.

    Raises DpopProofRefusedError, and DpopNonceRequiredError if only the nonce is wrong.
    """
    raise NotImplementedError


def normalised_uri(text: str) -> str:
    """Return an http or https URI in its normal form, without query and fragment (RFC 9449 section 4.3).

    Two URIs that RFC 3986 sections 6.2.2 and 6.2.3 call equivalent have one normal form: the case of scheme
    and host, the default port, percent-encoding, dot segments and an empty path do not matter. Raises
    ValueError for a text that is not such a URI, and for one with a user or password.
    """
    raise NotImplementedError
