"""The error of a command that does not reach the service names the address, the cause and the remedy."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from identity_service.process.exit_codes import Exit
from identity_service.storage.sqlite import SqliteStore
from tests.cli.conftest import Run, Served
from tests.ports import refusing_address
from tests.rpc.conftest import running, settings_for_tests
from tests.tls import Certifier, Holder

Said = Callable[..., str]
Serve = Callable[..., str]


@pytest.fixture
def said(run: Run) -> Said:
    """Return a function that runs a command on an unreachable target and returns its standard error."""

    def said(target: str, *words: str) -> str:
        call = ("token", "issue", "--client-id", "demo", "--target", target)
        return run(*call, *words, code=Exit.UNAVAILABLE, IDENTITY_CLIENT_SECRET="not needed").stderr

    return said


@pytest.fixture
def certifier(tmp_path: Path) -> Certifier:
    return Certifier(tmp_path / "tls")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a function that starts a service with this certificate and returns its target."""
    store = str(tmp_path / "served.db")
    with ExitStack() as cleanup:

        def serve(holder: Holder, **settings: object) -> str:
            wanted = settings_for_tests(**holder.settings(**settings))
            opened = running(wanted, lambda clock: SqliteStore.open(store, clock=clock))
            return cleanup.enter_context(opened).target

        yield serve


def test_no_process_listens_there(said: Said) -> None:
    with refusing_address() as target:
        error = said(target)

    assert f"no process listens on {target} (connection refused)" in error
    assert "--target (IDENTITY_TARGET)" in error


def test_the_host_is_not_known(said: Said) -> None:
    assert "the host in nothing.invalid:50051 is not known" in said("nothing.invalid:50051", "--tls")


def test_a_service_on_another_machine_is_not_called_without_tls(run: Run) -> None:
    words = ("token", "issue", "--client-id", "demo", "--target", "identity.example:50051")

    error = run(*words, code=Exit.USAGE, IDENTITY_CLIENT_SECRET="s3cret").stderr

    assert "identity.example:50051 is not an address of this machine" in error
    for option in ("--tls", "--ca", "--allow-plaintext"):
        assert option in error
    assert "s3cret" not in error


def test_a_service_on_another_machine_is_called_without_tls_if_that_is_permitted(said: Said) -> None:
    assert "the host in nothing.invalid:50051 is not known" in said(
        "nothing.invalid:50051", "--allow-plaintext"
    )


def test_the_service_has_no_tls(said: Said, served: Served, certifier: Certifier) -> None:
    error = said(served.target, "--ca", str(certifier.file))

    assert f"the service at {served.target} does not use TLS: leave out --tls, --ca and --cert" in error


def test_the_service_has_tls(said: Said, serve: Serve, certifier: Certifier) -> None:
    target = serve(certifier.server())

    error = said(target)

    assert f"the service at {target} closed the connection: if it uses TLS, set --tls" in error
    assert "--ca (IDENTITY_CA)" in error


def test_the_certificate_is_from_an_authority_that_is_not_trusted(
    said: Said, serve: Serve, certifier: Certifier, tmp_path: Path
) -> None:
    target, other = serve(certifier.server()), Certifier(tmp_path / "other").file

    assert f"the certificate of the service at {target} is from an authority that gRPC does not know" in said(
        target, "--tls"
    )
    assert f"from an authority that {other} does not contain: give the file" in said(
        target, "--ca", str(other)
    )


def test_the_certificate_of_the_service_has_expired(said: Said, serve: Serve, certifier: Certifier) -> None:
    target = serve(certifier.server(lifetime=-timedelta(minutes=1)))

    error = said(target, "--ca", str(certifier.file))

    assert f"the certificate of the service at {target} has expired" in error
    assert "tls_certificate" in error


def test_the_certificate_is_for_another_host(said: Said, serve: Serve, certifier: Certifier) -> None:
    target = serve(certifier.server(names=("identity.example",)))

    error = said(target, "--ca", str(certifier.file))

    assert f"the certificate of the service at {target} is for other host names" in error


def test_the_service_requires_a_client_certificate(said: Said, serve: Serve, certifier: Certifier) -> None:
    target = serve(certifier.server(), tls_client_ca=certifier.file)

    error = said(target, "--ca", str(certifier.file))

    assert f"the service at {target} closed the connection: if it requires a client certificate" in error
    assert "--cert and --key" in error


def test_the_service_refuses_the_client_certificate(
    said: Said, serve: Serve, certifier: Certifier, tmp_path: Path
) -> None:
    target = serve(certifier.server(), tls_client_ca=certifier.file)
    shown = Certifier(tmp_path / "other").client("demo", "demo.example", lifetime=-timedelta(minutes=1))
    own = ("--cert", str(shown.certificate_file), "--key", str(shown.key_file))

    error = said(target, "--ca", str(certifier.file), *own)

    assert f"{shown.certificate_file} (demo.example) expired on" in error
    assert f"the service at {target} closed the connection: the certificate in" in error
    assert "tls_client_ca" in error
