"""Checks of DPoP proofs (RFC 9449): each proof is for one request, and works once.

Every stranger can make a key and sign valid proofs with it. So checking and remembering a proof are two
steps: check the proof first, then the credential or token that comes with it, and remember the proof only if
that is right. Otherwise strangers could fill the store or the memory of the process.
"""

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Final

from identity_service.domain.credential_errors import DpopProofRefusedError
from identity_service.domain.dpop import (
    PROOF_VALIDITY,
    DpopProof,
    DpopProofReader,
    PresentedProof,
    accepted_nonces,
    check_proof,
)
from identity_service.domain.errors import NoSigningKeyError, ServerBusyError
from identity_service.domain.ids import base64url, digest_of
from identity_service.domain.ports import Clock
from identity_service.domain.store import SingleUse
from identity_service.services.keyring import KeyRing

_USED: Final = "it was used before: make a new one, with another jti, for each request"
MAX_PROOFS: Final = 400_000
"""The largest number of proofs that are remembered: those of 2,500 calls a second. They take 40 MiB."""


class DpopProofs:
    """A checker of DPoP proofs, which makes the nonces and remembers the proofs that were used."""

    def __init__(
        self,
        reader: DpopProofReader,
        single_use: SingleUse,
        keys: KeyRing,
        clock: Clock,
        *,
        leeway: timedelta,
        require_nonce: bool,
    ) -> None:
        """Check proofs with this clock.

        `leeway` is the largest difference between the clock of a client and this one. With `require_nonce`,
        every proof must have a nonce of this service.
        """
        self._reader = reader
        self._single_use = single_use
        self._keys = keys
        self._clock = clock
        self._leeway = leeway
        self._require_nonce = require_nonce
        # A proof is accepted from a leeway before its `iat` until a leeway after it has expired.
        self._window = ProofWindow(clock.boot, PROOF_VALIDITY + 2 * leeway)

    def check(self, presented: PresentedProof, *, access_token: str | None = None) -> DpopProof:
        """Return the proof if it is valid for this request; remember nothing.

        `access_token` is the token that is shown with the proof; None = the request shows none. Raises
        DpopProofRefusedError and DpopNonceRequiredError.
        """
        proof = self._reader.read(presented.jwt)
        check_proof(
            proof,
            presented,
            now=self._clock.now(),
            leeway=self._leeway,
            nonces=self._nonces(self._keys.refresh_keys()) if self._require_nonce else (),
            access_token=access_token,
        )
        return proof

    def bind(self, proof: DpopProof) -> bytes:
        """Consume the proof of a request for tokens; return the thumbprint that they are bound to.

        Raises the errors of `consume`.
        """
        self.consume(proof)
        return proof.key_sha256

    def consume(self, proof: DpopProof) -> None:
        """Mark a proof as used, in the store: for Issue and Refresh, where no process accepts it again.

        Call it after the credential was found right. Raises DpopProofRefusedError if the proof was used
        before, and StoreUnavailableError.
        """
        # One leeway as in the check, and one since the clock of the store may be ahead by as much.
        until = proof.issue_time + PROOF_VALIDITY + 2 * self._leeway
        key = f"dpop:{base64url(proof.key_sha256)}:{digest_of(proof.token_id)}"
        if not self._single_use.consume(key, until):
            raise DpopProofRefusedError(_USED)

    def consume_here(self, proof: DpopProof) -> None:
        """Mark a proof as used, in the memory of this process: for a request that shows an access token.

        Call it after the token verified and its binding was found to be `proof.key_sha256`. Raises
        DpopProofRefusedError if this process accepted the proof before, and ServerBusyError if it remembers
        too many proofs: it refuses rather than forgets one.
        """
        if not self._window.add(sha256(proof.key_sha256 + proof.token_id.encode()).digest()[:16]):
            raise DpopProofRefusedError(_USED)

    def next_nonce(self) -> str | None:
        """Return the nonce that the next proof of a client must have; None if proofs need none.

        It is sent with answers to requests that were carried out. So it is None as well if there is no key to
        make it with: an answer must not be lost for that.
        """
        if not self._require_nonce:
            return None
        try:
            return self.nonce()
        except NoSigningKeyError:
            return None

    def nonce(self) -> str:
        """Return the current nonce, which is the same in every process. Raises NoSigningKeyError."""
        return self._nonces(self._keys.refresh_keys()[:1])[0]

    def _nonces(self, keys: Sequence[bytes]) -> tuple[str, ...]:
        return accepted_nonces(keys, self._clock.unix())


class ProofWindow:
    """A set whose members are forgotten when one to two spans have passed, and never because it is full.

    It has two halves: when a span has passed, the young half becomes the old one, which is dropped.
    """

    def __init__(self, boot: Callable[[], float], span: timedelta, *, limit: int = MAX_PROOFS) -> None:
        """Begin empty. `boot` is the boot clock in seconds, which no change of the wall clock moves."""
        self._boot = boot
        self._span = span.total_seconds()
        self._limit = limit
        self._lock = threading.Lock()
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()
        self._turn = boot() + self._span

    def add(self, member: bytes) -> bool:
        """Add a member; return False if it is there already. Raises ServerBusyError if the set is full."""
        now = self._boot()
        with self._lock:
            late = now - self._turn
            if late >= 0:
                self._old = self._young if late < self._span else set()
                self._young = set()
                self._turn += self._span * (1 + late // self._span)
            if member in self._young or member in self._old:
                return False
            if len(self._young) + len(self._old) >= self._limit:
                raise ServerBusyError(
                    f"this process remembers too many DPoP proofs ({self._limit:,}); try another instance",
                    retry_after=self._turn - now,
                )
            self._young.add(member)
        return True
