"""AccessTokens with the real service: when a token is renewed, in which thread, and which calls wait."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from joserfc.jwk import ECKey

from identity_client import (
    AccessTokens,
    AdminClient,
    AssertionSigner,
    ClientOptions,
    IdentityClient,
    TlsOptions,
    TokenSet,
    UnauthenticatedError,
    UnavailableError,
)
from identity_client.environment import Environment
from identity_service.storage.sqlite import SqliteStore
from identity_shared.strict import decode_base64url, parse_object
from identity_shared.token_ids import hash_token_id, unverified_token_id
from identityapi.v1.identity_service_pb2 import IssueRequest
from tests.clients.sources import LIFETIME, Clock, SignIns, source
from tests.patience import PATIENCE, until
from tests.ports import reserve_address
from tests.rpc.conftest import running, settings_for_tests
from tests.rpc.restartable import Restartable
from tests.rpc.world import API, PASSWORD, World, failure
from tests.tls import Certifier

UNAVAILABLE = UnavailableError("down", code=grpc.StatusCode.UNAVAILABLE)


def test_fifty_threads_that_need_a_token_cause_one_sign_in(tokens: AccessTokens, sign_ins: SignIns) -> None:
    entered = threading.Semaphore(0)

    def call() -> str:
        entered.release()
        return tokens()

    with ThreadPoolExecutor(50) as pool:
        with sign_ins.held():
            calls = [pool.submit(call) for _ in range(50)]
            for _ in calls:
                assert entered.acquire(timeout=PATIENCE)
        got = {each.result(PATIENCE) for each in calls}

    assert (len(got), sign_ins.count) == (1, 1)


def test_a_stale_token_is_used_at_once_while_one_thread_renews_it(
    tokens: AccessTokens, sign_ins: SignIns, clock: Clock
) -> None:
    first = tokens()
    clock.ahead = 0.9 * LIFETIME

    with sign_ins.held():
        assert [tokens() for _ in range(10)] == [first] * 10
        until(lambda: sign_ins.count == 2)

    until(lambda: tokens() != first)
    assert sign_ins.count == 2


def test_while_the_service_is_down_a_token_is_used_until_its_end_and_no_longer(
    tokens: AccessTokens, sign_ins: SignIns, clock: Clock
) -> None:
    first = tokens()
    sign_ins.errors = [UNAVAILABLE] * 1000

    clock.ahead = 0.9 * LIFETIME
    assert tokens() == first
    until(lambda: sign_ins.count == 2)
    clock.ahead = 1.1 * LIFETIME
    with pytest.raises(UnavailableError, match=r"down|no access token"):
        tokens(timeout=0.05)


def test_the_log_says_of_a_failed_renewal_whether_a_token_is_left(
    tokens: AccessTokens, sign_ins: SignIns, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    sign_ins.errors = [UNAVAILABLE]
    tokens()
    (message,) = [record.message for record in caplog.records]
    assert "down. No token is valid meanwhile; the next attempt is in" in message

    sign_ins.errors = [UNAVAILABLE]
    clock.ahead = 0.9 * LIFETIME
    tokens()
    until(lambda: len(caplog.records) == 2)
    assert "down. It is valid for" in caplog.records[1].message


def test_a_call_that_has_time_left_gets_a_token_although_some_renewals_fail(
    tokens: AccessTokens, sign_ins: SignIns
) -> None:
    sign_ins.errors = [UNAVAILABLE] * 3

    assert tokens()
    assert sign_ins.count == 4


def test_a_call_waits_no_longer_than_its_own_deadline_and_leaves_the_renewal_to_others(
    tokens: AccessTokens, sign_ins: SignIns
) -> None:
    with sign_ins.held(), pytest.raises(UnavailableError, match=r"no access token within 0\.05 s") as error:
        tokens(timeout=0.05)
    assert error.value.code is grpc.StatusCode.DEADLINE_EXCEEDED

    assert tokens()
    assert sign_ins.count == 1


def test_a_call_of_the_service_waits_for_its_token_no_longer_than_its_own_deadline(
    service: World, tokens: AccessTokens, sign_ins: SignIns
) -> None:
    options = ClientOptions(bearer=tokens, timeout=timedelta(milliseconds=50))
    with (
        AdminClient(service.target, options=options) as admin,
        sign_ins.held(),
        pytest.raises(UnavailableError, match=r"no access token within 0\.05 s"),
    ):
        admin.get_client("caller")


def test_a_source_with_a_client_of_its_own_repeats_no_renewal_beyond_the_retries_of_that(
    sign_ins: SignIns,
) -> None:
    sign_ins.errors = [UNAVAILABLE]
    with AccessTokens(sign_ins.connect(), sign_ins) as tokens:
        with pytest.raises(UnavailableError, match="down"):
            tokens(timeout=PATIENCE)
        assert sign_ins.count == 1


def test_a_thread_that_is_told_to_exit_while_it_renews_leaves_no_call_waiting(
    tokens: AccessTokens, sign_ins: SignIns
) -> None:
    sign_ins.errors = [SystemExit(1)]

    with pytest.raises(SystemExit):
        tokens(timeout=PATIENCE)


def test_a_refused_credential_is_not_sent_again_at_once(
    tokens: AccessTokens, sign_ins: SignIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_ins.errors = [UnauthenticatedError("no", code=grpc.StatusCode.UNAUTHENTICATED)]
    monkeypatch.setattr(tokens._renewer, "_clock", lambda: 0.0)

    for _ in range(3):
        with pytest.raises(UnauthenticatedError, match="no"):
            tokens()

    assert sign_ins.count == 1


def test_an_invalidated_token_is_replaced_and_the_fourth_one_not_before_three_minutes(
    tokens: AccessTokens, clock: Clock
) -> None:
    first = tokens()

    assert tokens.invalidate(first)
    second = tokens()
    assert second != first
    assert tokens.invalidate(first)  # by another thread that got it before
    assert tokens() == second
    assert tokens.invalidate(second)
    assert tokens.invalidate(tokens())
    fourth = tokens()
    assert not tokens.invalidate(fourth)
    clock.ahead = 181
    assert tokens.invalidate(fourth)
    assert tokens() != fourth


def test_tokens_that_were_requested_before_an_invalidation_are_not_used(
    tokens: AccessTokens, sign_ins: SignIns, clock: Clock
) -> None:
    first = tokens()
    clock.ahead = 0.9 * LIFETIME
    with sign_ins.held():
        tokens()
        until(lambda: sign_ins.count == 2)
        tokens.invalidate(first)

    assert tokens()
    assert sign_ins.count == 3


def test_a_call_of_the_service_is_repeated_with_another_token_if_that_of_the_caller_was_revoked(
    service: World,
) -> None:
    named = service.admin.credential.client_secret
    with AccessTokens.by_secret(
        named.client_id, named.client_secret, target=service.target, scopes=["identity.admin"]
    ) as tokens:
        service.revoke(service.admin_token(), token_id=unverified_token_id(tokens()))

        with AdminClient(service.target, options=ClientOptions(bearer=tokens)) as admin:
            assert admin.get_client(named.client_id).client_id == named.client_id


def test_the_service_names_the_refused_token_by_the_hash_of_its_id_only(service: World) -> None:
    token = service.admin_token()
    token_id = unverified_token_id(token)
    service.revoke(service.admin_token(), token_id=token_id)

    found = []
    for sent in (token, "unreadable"):
        with IdentityClient(service.target, options=ClientOptions(bearer=sent)) as client:
            with pytest.raises(UnauthenticatedError) as error:
                client.revoke_token_id("another")
            found.append(error.value.token_id_sha256)
    with pytest.raises(grpc.RpcError) as raw:
        service.revoke(token, token_id="another")

    assert found == [hash_token_id(token_id), ""]
    assert failure(raw.value).code is grpc.StatusCode.UNAUTHENTICATED
    refused: Any = raw.value
    shown = repr(refused.trailing_metadata())
    assert token_id not in shown
    assert token.split(".")[2] not in shown


def test_a_secret_is_read_from_its_file_again_at_each_renewal(service: World, tmp_path: Path) -> None:
    named = service.new_client().credential.client_secret
    path = tmp_path / "secret"
    path.write_text(f"{named.client_secret}\n")
    variables = {
        "IDENTITY_TARGET": service.target,
        "IDENTITY_CLIENT_ID": named.client_id,
        "IDENTITY_CLIENT_SECRET_FILE": str(path),
    }
    with AccessTokens.from_env(audience=API, environment=Environment.read(variables)) as tokens:
        first = tokens()
        rotated = service.store_admin.administrator.clients.rotate_secret(
            named.client_id, overlap=timedelta(0), revoke=True
        )
        path.write_text(rotated[1].reveal())
        assert service.reason(first, strong=True) == "REVOKED"

        assert tokens.invalidate(first)
        assert service.reason(tokens()) == ""


def test_a_client_signs_in_by_its_private_key(service: World, tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256")
    path = tmp_path / "key.pem"
    path.write_bytes(key.as_pem(private=True))
    service.new_client("signer", public_keys=(AssertionSigner.from_file("signer", path).public_jwk(),))

    with AccessTokens.by_private_key(
        "signer", path, issuer=service.settings.issuer, target=service.target, audience=API
    ) as tokens:
        assert service.reason(tokens()) == ""


def test_a_rotated_certificate_is_used_at_the_next_renewal(tmp_path: Path, certifier: Certifier) -> None:
    settings = settings_for_tests(**certifier.server().settings(tls_client_ca=certifier.file))
    with running(settings, lambda clock: SqliteStore.open(str(tmp_path / "m.db"), clock=clock)) as mutual:
        mutual.new_client("agent", public=True, certificates=("dns:agent.example",))
        holder = certifier.client("agent", "agent.example")
        options = ClientOptions(tls=certifier.options(holder))
        with AccessTokens.by_certificate(options=options, target=mutual.target, audience=API) as tokens:
            first, shown = tokens(), holder.sha256
            holder = certifier.client("agent", "agent.example")
            tokens.invalidate(first)
            second = tokens()

    assert holder.sha256 != shown
    assert [_certificate_of(token) for token in (first, second)] == [shown, holder.sha256]


def _certificate_of(token: str) -> bytes:
    claims = parse_object(decode_base64url(token.split(".")[1]))
    return decode_base64url(claims["cnf"]["x5t#S256"])


def test_the_token_of_a_trusted_issuer_is_read_from_its_file_again_at_each_renewal(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    sent: list[str] = []

    def refuse(self: IdentityClient, request: IssueRequest) -> TokenSet:
        sent.append(request.credential.federated_token.jwt)
        raise UNAVAILABLE

    with (
        pytest.MonkeyPatch.context() as patch,
        AccessTokens.by_federated_file(path, target="127.0.0.1:1") as tokens,
    ):
        patch.setattr(IdentityClient, "issue", refuse)
        for text in ("one", "two"):
            path.write_text(f"{text}\n")
            tokens._renewer._state._retry_at = 0.0
            with pytest.raises(UnavailableError):
                tokens(timeout=0)
            until(lambda: tokens._renewer._renewal is None)

    assert sent == ["one", "two"]


def test_a_file_that_cannot_be_read_is_an_error_at_once(tmp_path: Path) -> None:
    options = ClientOptions(tls=TlsOptions(ca_file=tmp_path / "none.pem"))
    with pytest.raises(FileNotFoundError, match=r"none\.pem"):
        AccessTokens.by_secret("reports", "s3cret", options=options)
    with pytest.raises(ValueError, match="certificate_file"):
        AccessTokens.by_certificate(options=ClientOptions())


def test_closing_ends_the_session_and_logging_out_also_forgets_the_tokens(service: World) -> None:
    service.new_user("ana")
    with AccessTokens.by_password("ana", PASSWORD, target=service.target, audience=API) as tokens:
        first = tokens()
        tokens.logout()
        assert service.reason(first) == "REVOKED"
        second = tokens()
        assert service.reason(second) == ""
    assert service.reason(second) == "REVOKED"
    with pytest.raises(RuntimeError, match="closed"):
        tokens()


def test_no_call_fails_while_the_service_restarts(tmp_path: Path, clock: Clock) -> None:
    settings = settings_for_tests(listen=reserve_address())
    restarted = Restartable(settings, lambda clock: SqliteStore.open(str(tmp_path / "i.db"), clock=clock))
    restarted.start()
    try:
        sign_ins = SignIns(restarted.world)
        with source(sign_ins, clock) as tokens, ThreadPoolExecutor(20) as pool:
            first = tokens()
            restarted.stop()
            clock.ahead = 0.9 * LIFETIME
            assert tokens() == first
            clock.ahead = 1.1 * LIFETIME
            calls = [pool.submit(tokens, PATIENCE) for _ in range(20)]
            until(lambda: sign_ins.count > 2)
            restarted.start()
            got = {each.result(PATIENCE) for each in calls}

        assert len(got) == 1
        assert first not in got
    finally:
        restarted.stop()


def test_a_child_process_waits_for_no_thread_of_its_parent(tokens: AccessTokens, sign_ins: SignIns) -> None:
    with sign_ins.held():
        with pytest.raises(UnavailableError):
            tokens(timeout=0.01)
        until(lambda: sign_ins.count == 1)
        tokens._renewer._lock.acquire()

        tokens._renewer.continue_in_child()

        with pytest.raises(UnavailableError):
            tokens(timeout=0.01)
        until(lambda: sign_ins.count == 2)


def test_a_hundred_clients_renew_through_a_restart_without_a_call_that_fails(
    tmp_path: Path, clock: Clock
) -> None:
    settings = settings_for_tests(listen=reserve_address())
    restarted = Restartable(settings, lambda clock: SqliteStore.open(str(tmp_path / "i.db"), clock=clock))
    restarted.start()
    try:
        sign_ins = SignIns(restarted.world)
        clients = [source(sign_ins, clock) for _ in range(100)]
        first = {tokens(PATIENCE) for tokens in clients}
        restarted.stop()
        clock.ahead = 0.9 * LIFETIME
        assert {tokens(PATIENCE) for tokens in clients} == first
        restarted.start()

        until(lambda: first.isdisjoint({tokens(PATIENCE) for tokens in clients}))
    finally:
        restarted.stop()


FORKING = """
import base64, json, os, sys
from identity_client import AccessTokens

def session(token):
    claims = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=="))["sid"]

target, username, password, audience = sys.argv[1:]
tokens = AccessTokens.by_password(username, password, target=target, audience=audience)
first = tokens()
child = os.fork()
if child == 0:
    same = tokens() == first
    tokens.invalidate(first)
    own = session(tokens(timeout=60)) != session(first)
    tokens.close()
    os._exit(0 if same and own else 1)
_, status = os.waitpid(child, 0)
tokens.invalidate(first)
print(status, session(tokens()) == session(first))
tokens.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_process_has_the_access_token_but_a_session_of_its_own(service: World) -> None:
    service.new_user("ana")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, service.target, "ana", PASSWORD, API],
        env=os.environ | {"GRPC_ENABLE_FORK_SUPPORT": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.stdout == "0 True\n", done.stderr


def test_no_repr_shows_a_token_or_a_secret(service: World) -> None:
    named = service.new_client().credential.client_secret
    with AccessTokens.by_secret(
        named.client_id, named.client_secret, target=service.target, audience=API
    ) as tokens:
        shown = [tokens()]
        assert not any(text in repr(tokens) + str(vars(tokens)) for text in [*shown, named.client_secret])
