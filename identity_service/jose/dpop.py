"""DPoP proofs as compact JWS (RFC 9449 section 4.2): strict parsing; implements DpopProofReader.

The key is the one in the header, as the RFC demands: it identifies its holder, and proves no identity. The
module knows no clock and no request.
"""

from typing import Final

from identity_service.domain.dpop import DpopProof
from identity_service.domain.issuers import ISSUER_ALGORITHMS
from identity_service.domain.secret import Secret

DPOP_ALGORITHMS: Final = ISSUER_ALGORITHMS
"""The algorithms of proofs (RFC 9449 section 5.1): those that the registered keys of clients may have."""


class StrictDpopProofs:
    """A strict parser of DPoP proofs."""

    def read(self, jwt: Secret) -> DpopProof:
        """Parse a proof, and verify it with the key in its header. Raises DpopProofRefusedError."""
        raise NotImplementedError
