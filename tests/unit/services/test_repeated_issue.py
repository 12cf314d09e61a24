"""A repeated request for a token is answered from a cache until something it depends on changes."""

import gc
import weakref
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from identity_service.domain.audit import AuditType
from identity_service.domain.credential_errors import CredentialRefusedError
from identity_service.domain.errors import ReplicaStaleError, TooManyAttemptsError
from identity_service.domain.grants import GrantRequest
from identity_service.domain.ids import EVERYONE, PrincipalId
from identity_service.domain.secret import Secret
from identity_service.domain.tokens import AccessToken, TokenEncryption
from identity_service.services.authenticate import ClientSecret
from identity_service.services.revoke import ByPrincipal
from identity_service.services.token_maker import TokenSet
from tests.unit.services.use_case_site import CALLER, CERTIFICATE, UseCaseSite, over

CLIENT = PrincipalId("reports")
DIGEST = b"the digest of the request"


def issued(site: UseCaseSite, **request: Any) -> TokenSet:
    """Issue a token for a request whose digest is this one."""
    return site.client_token(digest=DIGEST, origin=CALLER, **request)


def repeated(site: UseCaseSite, digest: bytes = DIGEST) -> TokenSet | None:
    known = site.use.repeated_issue.find(digest)
    return None if known is None else site.use.repeated_issue.issue(known, CALLER.peer, CALLER.request_id)


def claims(site: UseCaseSite, tokens: TokenSet | None) -> AccessToken:
    assert tokens is not None
    found = site.read(tokens)
    assert isinstance(found, AccessToken)
    return found


def claims_of(site: UseCaseSite, tokens: TokenSet | None) -> Mapping[str, object]:
    return claims(site, tokens).claims


def try_a_wrong_secret(site: UseCaseSite) -> None:
    wrong = ClientSecret(client_id=CLIENT, secret=Secret("wrong"))
    with pytest.raises(CredentialRefusedError):
        site.client_token(credential=wrong, origin=CALLER)


def test_a_repeated_request_gets_the_same_token_with_an_id_and_times_of_its_own(site: UseCaseSite) -> None:
    site.new_client()
    grant = GrantRequest(audiences=("api",), scopes=("read",), lifetime=timedelta(minutes=7))
    first = issued(site, grant=grant, claims={"team": "a"}, may_act=PrincipalId("portal"))
    site.pass_time(minutes=1)

    again = repeated(site)

    before, after = claims(site, first), claims(site, again)
    assert after.token_id != before.token_id
    assert (
        after.issue_time - before.issue_time == after.expire_time - before.expire_time == timedelta(minutes=1)
    )
    for name in AccessToken.__slots__:
        if name not in ("token_id", "issue_time", "expire_time"):
            assert getattr(after, name) == getattr(before, name), name
    assert again is not None
    returned = (again.token_id, again.issue_time, again.expire_time, again.audiences, again.scopes)
    assert returned == (after.token_id, after.issue_time, after.expire_time, after.audiences, after.scopes)
    assert (again.token_type, again.refresh_token) == (first.token_type, None)


def test_a_repeated_request_leaves_the_same_audit_event(site: UseCaseSite) -> None:
    site.new_client()
    issued(site)
    repeated(site)

    first, again = site.audited(AuditType.TOKEN_ISSUED)

    assert first.pop("token_id") != again.pop("token_id")
    assert first == again


def test_the_extra_claims_of_a_request_are_not_kept_as_objects(site: UseCaseSite) -> None:
    """An empty list is two characters of JSON, but takes 56 bytes as an object."""

    class Claims(dict[str, object]):
        """Claims to which the test holds a weak reference, to see when they are freed."""

    site.new_client()
    claims = Claims(team="a")
    lives = weakref.ref(claims)
    issued(site, claims=claims)
    del claims
    gc.collect()

    assert lives() is None
    assert claims_of(site, repeated(site)) == {"team": "a"}


def test_another_request_is_not_known(site: UseCaseSite) -> None:
    site.new_client()
    issued(site)

    assert repeated(site, b"another digest") is None


@pytest.mark.parametrize(
    "happens",
    [
        lambda site: site.update_client(CLIENT, scopes=frozenset({"read"})),
        lambda site: site.update_client(CLIENT, disabled=True),
        lambda site: site.use.administration.clients.rotate_secret(CLIENT, overlap=timedelta(0)),
        lambda site: site.revoke_all_of(CLIENT),
        lambda site: site.revoke(ByPrincipal(principal=EVERYONE)),
        try_a_wrong_secret,
    ],
    ids=["other scopes", "disabled", "other secret", "revoked", "all revoked", "a failed attempt"],
)
def test_a_request_is_decided_again_once_anything_behind_it_has_changed(
    site: UseCaseSite, happens: Callable[[UseCaseSite], None]
) -> None:
    site.new_client()
    issued(site)
    assert repeated(site) is not None

    happens(site)
    site.replica.catch_up()

    assert repeated(site) is None


def test_a_secret_that_has_expired_meanwhile_works_no_more(site: UseCaseSite) -> None:
    site.new_client()
    site.use.administration.clients.rotate_secret(CLIENT, overlap=timedelta(hours=1))
    site.replica.catch_up()
    issued(site)
    site.pass_time(minutes=59)
    assert repeated(site) is not None

    site.pass_time(minutes=1)

    assert repeated(site) is None


def test_a_request_decided_again_is_known_again(site: UseCaseSite) -> None:
    site.new_client()
    issued(site)
    site.revoke_all_of(CLIENT)
    issued(site)

    assert claims(site, repeated(site)).generations.keys() == {CLIENT}


def test_the_pause_after_wrong_secrets_holds_for_a_request_that_was_granted_before(site: UseCaseSite) -> None:
    site.new_client()
    issued(site)
    for _ in range(20):
        try_a_wrong_secret(site)

    assert repeated(site) is None
    with pytest.raises(TooManyAttemptsError):
        issued(site)


def test_a_stale_process_repeats_nothing(site: UseCaseSite) -> None:
    site.new_client()
    issued(site)
    site.clock.advance(site.settings.max_staleness * 2)

    with pytest.raises(ReplicaStaleError):
        repeated(site)


def bound(site: UseCaseSite) -> None:
    site.new_client(require_binding=True)
    site.client_token(digest=DIGEST, origin=over(CERTIFICATE))


def encrypted(site: UseCaseSite) -> None:
    site.new_client()
    site.client_token(digest=DIGEST, encryption=TokenEncryption.SERVICE)


def of_a_user(site: UseCaseSite) -> None:
    site.new_app()
    site.new_user()
    site.sign_in(digest=DIGEST)


def without_a_digest(site: UseCaseSite) -> None:
    site.new_client()
    site.client_token()


@pytest.mark.parametrize("issue", [bound, encrypted, of_a_user, without_a_digest])
def test_only_plain_tokens_for_a_secret_are_kept(
    site: UseCaseSite, issue: Callable[[UseCaseSite], None]
) -> None:
    issue(site)

    assert repeated(site) is None
