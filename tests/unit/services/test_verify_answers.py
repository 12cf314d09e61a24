"""Verify: the requirements of a request, and the checks that every call makes even for a cached token."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from identity_service.domain.errors import ReplicaStaleError, RevisionNotReachedError
from identity_service.domain.grants import GrantRequest
from identity_service.domain.ids import KeyId, PrincipalId
from identity_service.domain.log import Generation, RecordKind
from identity_service.domain.tokens import AccessToken, Rejected, RejectionReason
from identity_service.jose.access_tokens import AccessTokenCodec
from identity_service.services.revoke import ByPrincipal, ByTokenId
from identity_service.services.token_maker import TokenSet
from identity_service.services.verify import Verified, VerifyRequest
from tests.unit.domain.samples import a_token
from tests.unit.services.use_case_site import (
    ANOTHER_CERTIFICATE,
    CALLER,
    CERTIFICATE,
    UseCaseSite,
    before,
    open_site,
)

CLIENT = PrincipalId("reports")
VALID = ""


@pytest.fixture
def tokens(site: UseCaseSite) -> TokenSet:
    """Return a client's token for `api` and `web`, with the scopes `read` and `write`."""
    site.new_client(audiences={"api", "web"})
    return site.client_token(grant=GrantRequest(audiences=("api", "web")))


def ask(site: UseCaseSite, token: TokenSet | str, **request: Any) -> str:
    """Return the reason why a token is rejected, or "" if it is valid."""
    text = token if isinstance(token, str) else token.access_token
    found = site.use.verifier.verify(VerifyRequest(token=text, **({"any_audience": True} | request)))
    return found.reason if isinstance(found, Rejected) else VALID


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"any_audience": False, "audiences": ("api",)}, VALID),
        ({"any_audience": False, "audiences": ("other", "web")}, VALID),
        ({"any_audience": False, "audiences": ("other",)}, "WRONG_AUDIENCE"),
        ({"any_audience": False}, "WRONG_AUDIENCE"),
        ({"audiences": ("other",)}, VALID),
        ({"required_scopes": ("read",)}, VALID),
        ({"required_scopes": ("write", "read")}, VALID),
        ({"required_scopes": ("read", "admin")}, "INSUFFICIENT_SCOPE"),
        ({"certificate_sha256": CERTIFICATE.sha256}, VALID),
    ],
)
def test_a_token_must_meet_the_requirements_of_the_request(
    site: UseCaseSite, tokens: TokenSet, request_: dict[str, Any], reason: str
) -> None:
    for _ in range(2):  # the second answer is from the cache
        assert ask(site, tokens, **request_) == reason


def test_a_token_without_scopes_meets_no_requirement_of_one(site: UseCaseSite) -> None:
    site.new_client(scopes=set())
    token = site.client_token()

    assert ask(site, token) == VALID
    assert ask(site, token, required_scopes=("read",)) == "INSUFFICIENT_SCOPE"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"certificate_sha256": CERTIFICATE.sha256}, VALID),
        ({"certificate_sha256": ANOTHER_CERTIFICATE.sha256}, "BINDING_MISMATCH"),
        ({}, "BINDING_MISMATCH"),
    ],
)
def test_a_bound_token_is_accepted_with_its_certificate_only(
    site: UseCaseSite, request_: dict[str, Any], reason: str
) -> None:
    site.new_client(require_binding=True)
    token = site.client_token(origin=replace(CALLER, certificate=CERTIFICATE))

    assert ask(site, token, **request_) == reason


@pytest.mark.parametrize(
    ("late", "reason"), [(0, VALID), (9, VALID), (10, "EXPIRED")], ids=["at exp", "leeway", "over"]
)
def test_a_token_expires_when_the_leeway_is_over(
    site: UseCaseSite, tokens: TokenSet, late: float, reason: str
) -> None:
    known = site.use.verifier.verify(VerifyRequest(token=tokens.access_token, any_audience=True))
    assert isinstance(known, Verified)
    site.pass_time(minutes=15, seconds=late)

    assert ask(site, tokens) == reason
    assert site.use.verifier.is_still_good(known) == (reason == VALID)


def signed(site: UseCaseSite, **changes: Any) -> str:
    """Return the text of a token that this service signed."""
    now = site.clock.now()
    times = {"issue_time": now, "expire_time": now + timedelta(minutes=15)}
    token = a_token(issuer=site.settings.issuer, **(times | changes))
    return AccessTokenCodec(site.use.keys, site.settings.issuer_names).sign(token)


@pytest.mark.parametrize(
    ("iat", "nbf", "reason"),
    [
        (10, None, VALID),
        (11, None, "NOT_YET_VALID"),
        (0, 10, VALID),
        (0, 11, "NOT_YET_VALID"),
        (11, 0, "NOT_YET_VALID"),
    ],
)
def test_a_token_is_not_valid_before_it_was_issued_or_before_its_nbf(
    site: UseCaseSite, iat: int, nbf: int | None, reason: str
) -> None:
    def at(seconds: int) -> datetime:
        return site.clock.now() + timedelta(seconds=seconds)

    text = signed(site, issue_time=at(iat), not_before=None if nbf is None else at(nbf))

    assert ask(site, text) == reason


@pytest.mark.parametrize(("length", "too_long"), [(8192, False), (8193, True)])
def test_a_text_of_more_than_eight_kibibytes_is_not_read(
    site: UseCaseSite, length: int, too_long: bool
) -> None:
    found = site.use.verifier.verify(VerifyRequest(token="a" * length, any_audience=True))

    assert isinstance(found, Rejected)
    assert found.reason == "MALFORMED"
    assert (found.detail == "the token is longer than 8 KiB") == too_long


@pytest.mark.parametrize("text", ["", "a.b.c", "\ud800", "é" * 20])
def test_any_text_gets_an_answer(site: UseCaseSite, text: str) -> None:
    assert ask(site, text) == "MALFORMED"


# The cache


def test_the_signature_of_a_token_is_verified_once(site: UseCaseSite, tokens: TokenSet) -> None:
    request = VerifyRequest(token=tokens.access_token, any_audience=True)

    first, second = (site.use.verifier.verify(request) for _ in range(2))

    assert first is second, "the second answer is the object of the first"


def test_a_rejected_text_is_not_taken_for_a_token_later(site: UseCaseSite, tokens: TokenSet) -> None:
    forged = tokens.access_token[:-8] + "AAAAAAAA"

    assert [ask(site, text) for text in (tokens, forged, tokens, forged)] == [
        VALID,
        "BAD_SIGNATURE",
        VALID,
        "BAD_SIGNATURE",
    ]


def deny(site: UseCaseSite, tokens: TokenSet) -> None:
    site.revoke(ByTokenId(token_id=tokens.token_id))


def raise_client(site: UseCaseSite, tokens: TokenSet) -> None:
    site.revoke(ByPrincipal(principal=CLIENT))


def delete_key(site: UseCaseSite, tokens: TokenSet) -> None:
    site.store.records.delete(RecordKind.KEY, next(iter(site.key_states())))
    site.replica.catch_up()


def retire_key(site: UseCaseSite, tokens: TokenSet) -> None:
    site.use.rotation.retire(KeyId(next(iter(site.key_states()))), "")


@pytest.mark.parametrize(
    ("happens", "reason", "detail"),
    [
        (deny, "REVOKED", "the token was revoked"),
        (raise_client, "REVOKED", "all tokens of one of the token's principals were revoked"),
        (retire_key, "REVOKED", "a key that the token was made with was retired"),
        (delete_key, "UNKNOWN_KEY", "the token's key is no longer in use"),
    ],
)
def test_a_token_that_is_cached_is_still_checked_on_every_call(
    site: UseCaseSite,
    tokens: TokenSet,
    happens: Callable[[UseCaseSite, TokenSet], None],
    reason: str,
    detail: str,
) -> None:
    request = VerifyRequest(token=tokens.access_token, audiences=("other",), any_audience=True)
    known = site.use.verifier.verify(request)
    assert isinstance(known, Verified)
    assert site.use.verifier.is_still_good(known)

    happens(site, tokens)

    # The requirements of the request come last: they say nothing about the token itself.
    for asked in (request, replace(request, any_audience=False)):
        found = site.use.verifier.verify(asked)
        assert found == Rejected(reason=RejectionReason(reason), detail=detail)
    assert not site.use.verifier.is_still_good(known)


def test_a_token_of_a_generation_that_is_not_known_here_is_good_only_once_it_is(site: UseCaseSite) -> None:
    site.new_client()
    elsewhere = site.other_process()
    site.clock.advance(timedelta(seconds=1))
    elsewhere.revoke(ByPrincipal(principal=CLIENT))
    later = elsewhere.client_token()
    known = elsewhere.use.verifier.verify(VerifyRequest(token=later.access_token, any_audience=True))
    assert isinstance(known, Verified)
    assert isinstance(known.token.generations[CLIENT], Generation)

    assert not site.use.verifier.is_still_good(known)
    assert ask(site, later) == VALID, "the log is read"
    assert site.use.verifier.is_still_good(known)


# What is read first


def test_a_strong_request_sees_what_another_process_has_written(site: UseCaseSite, tokens: TokenSet) -> None:
    other = site.client_token(grant=GrantRequest(audiences=("api",)))
    elsewhere = site.other_process()
    revision = elsewhere.revoke(ByTokenId(token_id=tokens.token_id))
    weak = VerifyRequest(token=tokens.access_token, any_audience=True)

    site.use.verifier.prepare(weak)
    assert ask(site, tokens) == VALID
    site.use.verifier.prepare(weak, replace(weak, at_least_revision=revision))
    assert ask(site, tokens) == "REVOKED"

    elsewhere.revoke(ByTokenId(token_id=other.token_id))
    assert ask(site, other) == VALID
    site.use.verifier.prepare(weak, replace(weak, strong=True))
    assert ask(site, other) == "REVOKED"


@pytest.mark.parametrize(("strong", "reads"), [(0, 0), (1, 1), (3, 1)])
def test_the_log_is_read_once_for_all_strong_requests_of_a_batch(
    site: UseCaseSite, strong: int, reads: int
) -> None:
    begun: list[int] = []
    before(site.replica, "reach", *[lambda: begun.append(1)] * 9)
    weak = VerifyRequest(token="")

    came = site.use.verifier.prepare(weak, *[replace(weak, strong=True)] * strong)

    assert (len(begun), came) == (reads, site.clock.monotonic())


def test_a_revision_that_the_log_does_not_have_yet_is_an_error(site: UseCaseSite) -> None:
    far = replace(site.replica.revision, position=site.replica.revision.position + 1)

    with pytest.raises(RevisionNotReachedError):
        site.use.verifier.prepare(VerifyRequest(token="", at_least_revision=far))


@pytest.mark.parametrize("on_stale", ["refuse", "serve"])
def test_a_stale_process_answers_only_if_the_operator_wants_it_to(on_stale: str) -> None:
    with open_site(on_stale=on_stale) as site:
        site.new_client()
        tokens = site.client_token()
        known = site.use.verifier.verify(VerifyRequest(token=tokens.access_token, any_audience=True))
        assert isinstance(known, Verified)
        assert isinstance(known.token, AccessToken)
        site.clock.advance(timedelta(seconds=6))

        if on_stale == "serve":
            assert ask(site, tokens) == VALID
            assert site.use.verifier.is_still_good(known)
            return
        with pytest.raises(ReplicaStaleError):
            ask(site, tokens)
        with pytest.raises(ReplicaStaleError):
            site.use.verifier.is_still_good(known)
