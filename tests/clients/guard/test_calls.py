"""A guard admits exactly the calls that policy and token allow, for each kind of method and server."""

import logging
from typing import Any

import grpc
import pytest

from identity_client import LocalVerifier
from identity_client.grpc import Policy
from tests.clients.guard.conftest import ENTRIES, Start
from tests.clients.guard.refusals import Refused, bearer, refusal, sha256_of
from tests.clients.guard.reports import Client, name
from tests.clients.guard.site import ADMIN, AUDIENCE, READ, Site
from tests.patience import PATIENCE, until
from tests.rpc.forging import forger_of

UNAUTHENTICATED = Refused("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED")
NOT_ALLOWED = Refused("PERMISSION_DENIED", "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize("end", ["revoked", "cancelled"])
def test_a_handler_has_its_caller_also_when_its_stream_ends(client: Client, site: Site, end: str) -> None:
    tokens = site.sign_in("bo")
    stream = client.stub("Endless")(b"", metadata=bearer(tokens.access_token), timeout=PATIENCE)
    subject = next(stream).decode()
    if end == "revoked":
        site.revoke(lambda to: to.revoke_token_id(tokens.token_id))
        with pytest.raises(grpc.RpcError):
            list(stream)
    else:
        stream.cancel()

    assert subject in client.reports.left.get(timeout=PATIENCE)


def test_a_handler_of_each_kind_knows_its_caller(client: Client, site: Site) -> None:
    metadata, ana = bearer(site.token()), site.users["ana"].id.encode()

    assert client.call("Get", metadata) == [ana]
    assert client.call("Total", metadata, b"12", b"345") == [ana + b" 5"]
    assert client.call("Follow", metadata, b"3") == [ana] * 3
    assert client.call("Chat", metadata, b"a", b"b") == [ana] * 2
    assert client.call("Written", metadata, b"2") == [ana] * 2


@pytest.mark.parametrize("method", ["Get", "Total", "Follow", "Chat", "Written"])
def test_a_call_of_each_kind_without_a_token_is_refused(client: Client, method: str) -> None:
    assert refusal(client.call, method, ()) == UNAUTHENTICATED


@pytest.mark.parametrize("method", ["Get", "Total", "Follow", "Chat", "Written"])
def test_a_call_of_each_kind_without_the_scope_is_refused(client: Client, site: Site, method: str) -> None:
    metadata = bearer(site.token(scopes=[ADMIN]))

    assert refusal(client.call, method, metadata) == Refused(
        "PERMISSION_DENIED", "CALLER_SCOPE_MISSING", "INSUFFICIENT_SCOPE"
    )


@pytest.mark.parametrize(
    ("values", "rejection"),
    [
        (["Bearer"], ""),
        (["Bearer "], ""),
        (["{}"], ""),
        (["Basic {}"], ""),
        (["Bearer {}", "Bearer {}"], ""),
        (["Bearer x", "Bearer {}"], ""),
        (["Bearer  {}"], "MALFORMED"),
        (["Bearer {} x"], "MALFORMED"),
        (["Bearer {},Bearer x"], "MALFORMED"),
        (["DPoP {}"], "BINDING_MISMATCH"),
    ],
)
def test_anything_but_one_bearer_token_is_refused(
    client: Client, site: Site, values: list[str], rejection: str
) -> None:
    token = site.token()
    metadata = [("authorization", value.replace("{}", token)) for value in values]

    found = refusal(client.call, "Get", metadata)
    assert found == Refused("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED", rejection)
    assert token not in found.message
    assert client.reports.entered.empty()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_in_any_case(client: Client, site: Site, scheme: str) -> None:
    assert client.call("Get", [("authorization", f"{scheme} {site.token()}")])


def test_a_token_that_is_not_valid_here_is_refused_with_its_rejection_reason(
    client: Client, site: Site
) -> None:
    token = site.token()
    forged = forger_of(site.world, token).forge(claims={"exp": 1, "iat": 0})

    for text, reason, rejection in (
        (site.token(audiences=["other"]), "CALLER_UNAUTHENTICATED", "WRONG_AUDIENCE"),
        (f"{token[:-4]}AAAA", "CALLER_UNAUTHENTICATED", "BAD_SIGNATURE"),
        (forged, "TOKEN_EXPIRED", "EXPIRED"),
    ):
        found = refusal(client.call, "Get", bearer(text))
        assert found == Refused("UNAUTHENTICATED", reason, rejection)


def test_a_revoked_token_is_refused_and_named_by_the_hash_of_its_id(
    client: Client, site: Site, verifier: LocalVerifier
) -> None:
    tokens = site.sign_in()
    assert client.call("Get", bearer(tokens.access_token))

    site.revoke(lambda service: service.revoke_token_id(tokens.token_id))
    until(lambda: verifier.why_ended(tokens.access_token) is not None)

    found = refusal(client.call, "Get", bearer(tokens.access_token))
    assert found == Refused("UNAUTHENTICATED", "TOKEN_REVOKED", "REVOKED")
    assert found.named == sha256_of(tokens.token_id)
    assert not found.retry


def test_a_method_without_an_entry_is_refused_however_it_would_be_handled(
    client: Client, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = bearer(site.token(scopes=[READ, ADMIN]))

    with caplog.at_level(logging.WARNING, "identity_client.guard"):
        for method in ("Unlisted", "Unlisted", "/x.Y/Z", "/grpc.reflection.v1.ServerReflection/Info"):
            assert refusal(client.call, method, metadata) == NOT_ALLOWED

    assert client.reports.entered.empty()
    assert sum("Unlisted" in record.message for record in caplog.records) == 1


def test_a_method_with_an_entry_that_the_server_does_not_have_is_unimplemented(
    client: Client, site: Site
) -> None:
    assert refusal(client.call, "/other.v1.Other/Get", bearer(site.token())).code == "UNIMPLEMENTED"


def test_a_public_method_has_no_caller_even_if_it_gets_a_token(client: Client, site: Site) -> None:
    metadata = bearer(site.token())

    for method in ("Get", "Total", "Follow", "Chat") * 8:
        # There are more calls than threads in the server, so each thread takes several.
        client.call(method, metadata, b"1")
        assert client.call("Hours", ()) == [b"None"]
        assert client.call("Hours", metadata) == [b"None"]


def test_a_handler_can_require_a_scope(client: Client, site: Site) -> None:
    assert refusal(client.call, "Delete", bearer(site.token())) == Refused(
        "PERMISSION_DENIED", "CALLER_SCOPE_MISSING"
    )
    assert client.call("Delete", bearer(site.token(scopes=[READ, ADMIN]))) == [b"deleted"]


class Broken:
    """A policy or a verifier that fails with an unexpected exception."""

    asks = False

    def __getattr__(self, _: str) -> Any:
        def fail(*_: object, **__: object) -> Any:
            raise RuntimeError("eyJhbGciOi a bug")

        return fail


@pytest.mark.parametrize("method", ["Get", "Chat", "Hours"])
def test_a_call_is_refused_if_the_policy_fails(start: Start, site: Site, method: str) -> None:
    with start(Broken(), Broken()) as client:
        found = refusal(client.call, method, bearer(site.token()))

    assert found == Refused("INTERNAL", "INTERNAL")
    assert "bug" not in found.message


@pytest.mark.parametrize("method", ["Get", "Chat"])
def test_a_call_is_refused_if_the_verifier_fails(start: Start, site: Site, method: str) -> None:
    with start(Broken(), Policy(AUDIENCE, ENTRIES)) as client:
        found = refusal(client.call, method, bearer(site.token()))

    assert found == Refused("INTERNAL", "INTERNAL")
    assert "bug" not in found.message


def test_two_users_who_call_at_the_same_time_are_never_mistaken_for_each_other(
    client: Client, site: Site
) -> None:
    """Their streams alternate, so that a thread of the server runs the handlers of both."""
    streams = {
        site.users[user].id.encode(): client.stub("Follow")(b"200", metadata=bearer(site.token(user)))
        for user in ("ana", "bo")
    }
    for _ in range(200):
        for subject, stream in streams.items():
            assert next(stream) == subject
            assert client.call("Hours", ()) == [b"None"]


def test_a_repr_of_the_caller_shows_no_token(site: Site, verifier: LocalVerifier) -> None:
    from identity_client.admission import Admission
    from identity_client.policy import requires

    token = site.token()
    requirement = Policy(AUDIENCE, {name("Get"): requires([READ])}).requirement(name("Get"))
    assert requirement is not None
    caller = Admission(verifier).admit(requirement, [f"Bearer {token}"], None)

    assert caller.token == token
    assert token not in repr(caller)
    assert token.split(".")[1] not in repr(caller)
