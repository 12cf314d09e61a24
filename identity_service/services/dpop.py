"""Checks of DPoP proofs (RFC 9449): each proof is for one request, and works once.

Every stranger can make a key and sign valid proofs with it. So checking and remembering a proof are two
steps: check the proof first, then the credential or token that comes with it, and remember the proof only if
that is right. Otherwise strangers could fill the store or the memory of the process.
"""

from datetime import timedelta

from identity_service.domain.dpop import DpopProof, DpopProofReader, PresentedProof
from identity_service.domain.ports import Clock
from identity_service.domain.store import SingleUse
from identity_service.services.keyring import KeyRing


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
        raise NotImplementedError

    def check(self, presented: PresentedProof, *, access_token: str | None = None) -> DpopProof:
        """Return the proof if it is valid for this request; remember nothing.

        `access_token` is the token that is shown with the proof; None = the request shows none. Raises
        DpopProofRefusedError and DpopNonceRequiredError.
        """
        raise NotImplementedError

    def consume(self, proof: DpopProof) -> None:
        """Mark a proof as used, in the store: for Issue and Refresh, where no process accepts it again.

        Call it after the credential was found right. Raises DpopProofRefusedError if the proof was used
        before, and StoreUnavailableError.
        """
        raise NotImplementedError

    def consume_here(self, proof: DpopProof) -> None:
        """Mark a proof as used, in the memory of this process: for a request that shows an access token.

        Call it after the token verified and its binding was found to be `proof.key_sha256`. Raises
        DpopProofRefusedError if this process accepted the proof before, and ServerBusyError if it remembers
        too many proofs: it refuses rather than forgets one.
        """
        raise NotImplementedError

    def nonce(self) -> str:
        """Return the current nonce, which is the same in every process. Raises NoSigningKeyError."""
        raise NotImplementedError
