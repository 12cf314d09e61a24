"""The Python client of identity-service: issues, verifies, refreshes and revokes tokens.

from identity_client import IdentityClient, Verified

with IdentityClient("127.0.0.1:50051") as client:
    tokens = client.issue_with_secret("reports", secret, audiences=["api"])
    outcome = client.verify(tokens.access_token, audiences=["api"])
    if isinstance(outcome, Verified):
        print(outcome.subject)
"""

from identity_client.admin import AdminClient
from identity_client.admin_messages import ClientWithSecret, EndedSessions, RetiredKey, RewrappedKeys
from identity_client.assertions import AssertionSigner
from identity_client.async_admin import AsyncAdminClient
from identity_client.async_client import AsyncIdentityClient
from identity_client.async_local import AsyncLocalVerifier
from identity_client.async_renewal import AsyncAccessTokens
from identity_client.async_trust import AsyncTrustClient
from identity_client.caller import Caller
from identity_client.client import IdentityClient
from identity_client.decryption import DecryptionKey, NotOpenableError
from identity_client.errors import (
    AbortedError,
    AlreadyExistsError,
    IdentityError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    SilentError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from identity_client.exchange import AsyncTokenExchange, TokenExchange
from identity_client.local import LocalVerifier
from identity_client.options import ClientOptions
from identity_client.policy import Policy, PolicyError
from identity_client.refusal import RefusedError
from identity_client.renewal import AccessTokens
from identity_client.tls import TlsOptions
from identity_client.token_store import FileTokenStore, StoredTokens, TokenStore
from identity_client.trust import (
    GenerationRaised,
    KeySet,
    PublicKey,
    Revocation,
    SessionEnded,
    TokenDenied,
    TrustClient,
    WatchEvent,
)
from identity_client.trust_follower import NotFreshError
from identity_client.values import Actor, Outcome, Rejected, TokenSet, Verified
from identity_client.verifier_core import TokenNames

__all__ = [
    "AbortedError",
    "AccessTokens",
    "Actor",
    "AdminClient",
    "AlreadyExistsError",
    "AssertionSigner",
    "AsyncAccessTokens",
    "AsyncAdminClient",
    "AsyncIdentityClient",
    "AsyncLocalVerifier",
    "AsyncTokenExchange",
    "AsyncTrustClient",
    "Caller",
    "ClientOptions",
    "ClientWithSecret",
    "DecryptionKey",
    "EndedSessions",
    "FileTokenStore",
    "GenerationRaised",
    "IdentityClient",
    "IdentityError",
    "InternalError",
    "InvalidArgumentError",
    "KeySet",
    "LocalVerifier",
    "WatchEvent",
    "NotFoundError",
    "NotFreshError",
    "NotOpenableError",
    "Outcome",
    "PermissionDeniedError",
    "Policy",
    "PolicyError",
    "PublicKey",
    "RefusedError",
    "Rejected",
    "ResourceExhaustedError",
    "RetiredKey",
    "RewrappedKeys",
    "Revocation",
    "SessionEnded",
    "SilentError",
    "StoredTokens",
    "TlsOptions",
    "TokenNames",
    "TokenDenied",
    "TokenExchange",
    "TokenSet",
    "TokenStore",
    "TrustClient",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "Verified",
]
