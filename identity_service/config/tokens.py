"""The settings of tokens and sessions: what they name, how long they live, and how they are bound."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BaseModel, Field, StringConstraints

from identity_service.config.values import Authority, Duration, Split, Texts, authority_of, within
from identity_service.domain.issuers import IssuerNames
from identity_service.domain.log import Marks

LONGEST_SESSION: Final = timedelta(days=400)
"""The upper bound of session_lifetime."""

_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class TokenSettings(BaseModel):
    """The tokens and sessions that the service issues; a part of `Settings`."""

    issuer: _Name = Field("identity-service", description="claim iss; 1 to 256 characters")
    accepted_issuers: Annotated[tuple[_Name, ...], Split] = Field(
        (),
        max_length=16,
        description="former values of issuer: their tokens are still verified, and clients may name them",
    )
    service_audience: _Name = Field(
        "identity-service",
        description="audience of the tokens of callers of this service; 1 to 256 characters",
    )
    known_scopes: Texts = Field((), description="the scopes that exist in this deployment; empty = any")
    access_token_lifetime: Annotated[Duration, within("1s", "24h")] = Field(
        timedelta(minutes=15),
        description="default lifetime of access tokens; 1s to max_access_token_lifetime",
    )
    max_access_token_lifetime: Annotated[Duration, within("1s", "24h")] = Field(
        timedelta(hours=24), description="longest lifetime of access tokens; 1s to 24h"
    )
    session_lifetime: Annotated[Duration, within("1m", "400d")] = Field(
        timedelta(days=30), description="lifetime of a session, counted from the sign-in; 1m to 400d"
    )
    leeway: Annotated[Duration, within("0s", "5m")] = Field(
        timedelta(seconds=10), description="how far the clocks of two machines may differ; at most 5m"
    )
    refresh_grace: Annotated[Duration, within("0s", "1h")] = Field(
        timedelta(seconds=60),
        description="how long a rotated refresh token still returns its successor; at most 1h",
    )
    dpop_authorities: Annotated[tuple[Authority, ...], Split] = Field(
        (),
        max_length=16,
        description="host or host:port under which clients reach the service, which DPoP proofs must name; "
        "empty = that of `issuer`, if it is an https URL",
    )
    dpop_require_nonce: bool = Field(
        default=False, description="whether every DPoP proof must have a nonce of this service"
    )

    @property
    def issuer_names(self) -> IssuerNames:
        """Return the issuer names of this service, the current one and the former ones."""
        return IssuerNames(self.issuer, self.accepted_issuers)

    @property
    def proof_authorities(self) -> tuple[str, ...]:
        """Return the authorities that the DPoP proofs of calls may name; empty = none is known."""
        return self.dpop_authorities or authority_of(self.issuer)

    @property
    def marks(self) -> Marks:
        """Return the longest durations of these settings, from which follows how long a denial is kept."""
        return Marks(
            lifetime=self.max_access_token_lifetime, session=self.session_lifetime, leeway=self.leeway
        )

    def _wrong_tokens(self) -> Iterator[str]:
        """Report each invalid combination of these settings."""
        if self.access_token_lifetime > self.max_access_token_lifetime:
            yield "access_token_lifetime: must not be longer than max_access_token_lifetime"
