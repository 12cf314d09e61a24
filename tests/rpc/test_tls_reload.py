"""Certificates, keys and certificate authorities that are replaced while the service runs."""

import functools
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from identity_service.domain.errors import ConfigurationError
from identity_service.transport.tls import Certificates, TlsFiles
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from tests import tls
from tests.fakes.event_logs import RecordingEventLog
from tests.patience import PATIENCE, until
from tests.ports import reserve_address
from tests.rpc.conftest import ENVOY, StartWorld
from tests.rpc.world import World, bearer
from tests.tls import Certifier, Holder, reaches, shown


def soon(world: World, true: Callable[[], bool]) -> bool:
    """Return whether the condition becomes true.

    It must be true at once on grpcio, which reads the files for each handshake, and after a while on Envoy.
    """
    deadline = time.monotonic() + (PATIENCE if world.settings.engine == ENVOY else 0)
    while not true():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def test_new_connections_see_a_certificate_that_was_replaced(
    start_world: StartWorld, certifier: Certifier
) -> None:
    first = certifier.server()
    before = first.der
    world = start_world(**first.settings())
    assert shown(world.target) == before

    after = certifier.server().der

    assert after != before
    assert soon(world, lambda: shown(world.target) == after)


def test_a_link_that_is_turned_to_another_folder_is_followed(
    start_world: StartWorld, certifier: Certifier, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    old, new = (Certifier(mount / f"..{number}").server() for number in (1, 2))
    (mount / "..data").symlink_to("..1")
    server = Holder(certificate_file=mount / "..data/server.pem", key_file=mount / "..data/server.key")
    world = start_world(**server.settings())
    assert shown(world.target) == old.der

    (mount / "..data_tmp").symlink_to("..2")  # as Kubernetes replaces a secret
    (mount / "..data_tmp").replace(mount / "..data")

    assert soon(world, lambda: shown(world.target) == new.der)


def test_a_client_authority_that_was_replaced_decides_about_new_connections_and_leaves_the_open_ones(
    mutual: World, certifier: Certifier, tmp_path: Path
) -> None:
    other = Certifier(tmp_path / "other")
    old, new = certifier.client("old", "ana.example"), other.client("new", "ana.example")
    with certifier.channel(mutual.target, old) as channel:
        open_ = replace(mutual, channel=channel)
        principal = open_.new_client()
        open_.issue(principal)

        tls.replace(certifier.file, certifier.file.read_bytes() + other.file.read_bytes())
        assert soon(mutual, lambda: reaches(mutual.target, certifier, new))
        assert reaches(mutual.target, certifier, old)

        known = certifier.file.read_bytes()
        tls.replace(certifier.file, other.file.read_bytes())
        believing = Certifier(tmp_path / "believing")
        tls.replace(believing.file, known)
        assert soon(mutual, lambda: not reaches(mutual.target, believing, old))
        assert reaches(mutual.target, believing, new)
        assert open_.issue(principal).access_token


def files(server: Holder, client_ca: Path | None = None) -> TlsFiles:
    return TlsFiles(certificate=server.certificate_file, key=server.key_file, client_ca=client_ca)


def put_foreign_certificate(folder: Path) -> None:
    foreign = Certifier(folder / "foreign").server()
    tls.replace(folder / "server.pem", foreign.certificate_file.read_bytes())


def put_foreign_key(folder: Path) -> None:
    tls.replace(folder / "server.key", Certifier(folder / "foreign").server().key_file.read_bytes())


def put_leaf_as_authority(folder: Path) -> None:
    tls.replace(folder / "ca.pem", (folder / "server.pem").read_bytes())


def halve(name: str) -> Callable[[Path], None]:
    def halve(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:120])

    return halve


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def put_pipe(name: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return put


SPOILT = {
    "a certificate without its key": put_foreign_certificate,
    "a key without its certificate": put_foreign_key,
    "half a certificate": halve("server.pem"),
    "half a key": halve("server.key"),
    "half an authority": halve("ca.pem"),
    "no certificate": remove("server.pem"),
    "no key": remove("server.key"),
    "no authority": remove("ca.pem"),
    "an authority that is none": put_leaf_as_authority,
    "a pipe that nothing writes to": put_pipe("server.key"),
}
"""Functions that replace the TLS files by ones that are incomplete or wrong, by the name of the fault."""


@pytest.mark.parametrize("how", SPOILT)
def test_files_that_do_not_match_are_not_used_and_reported_once(certifier: Certifier, how: str) -> None:
    event_log, server = RecordingEventLog(), certifier.server()
    certificates = Certificates(files(server, certifier.file), event_log)
    good = certificates.expire_time()

    SPOILT[how](certifier.file.parent)

    assert [certificates.expire_time() for _ in range(3)] == [good] * 3
    assert event_log.names == ["tls_refused"]
    assert "PRIVATE" not in str(event_log.events)


def test_a_key_that_others_may_read_is_served_with_a_warning(certifier: Certifier) -> None:
    event_log, server = RecordingEventLog(), certifier.server()
    server.key_file.chmod(0o644)

    Certificates(files(server), event_log)

    ((event, fields),) = event_log.events
    assert event == "tls_key_exposed"
    assert f"other users may read {server.key_file}; run `chmod 600" in str(fields)


@pytest.mark.parametrize("how", SPOILT)
def test_it_does_not_start_with_files_that_do_not_match(certifier: Certifier, how: str) -> None:
    server = certifier.server()
    SPOILT[how](certifier.file.parent)

    with pytest.raises(ConfigurationError, match=r"^tls_"):
        Certificates(files(server, certifier.file), RecordingEventLog())


def test_connections_go_on_with_the_last_good_pair_until_there_is_a_whole_new_one(
    start_world: StartWorld, certifier: Certifier
) -> None:
    server = certifier.server()
    good = server.der
    world = start_world(**server.settings())

    put_foreign_certificate(certifier.file.parent)
    assert shown(world.target) == good

    after = certifier.server().der
    assert soon(world, lambda: shown(world.target) == after)


def test_the_same_error_after_a_good_replacement_is_reported_again(certifier: Certifier) -> None:
    event_log, server = RecordingEventLog(), certifier.server()
    certificates = Certificates(files(server), event_log)

    for _ in range(2):
        server.key_file.unlink()
        certificates.expire_time()
        certifier.server()
        certificates.expire_time()

    assert event_log.names == ["tls_refused", "tls_reloaded"] * 2


def test_metrics_show_when_the_certificate_expires_and_count_replacements(
    start_world: StartWorld, certifier: Certifier
) -> None:
    address = reserve_address()
    world = start_world(**certifier.server().settings(metrics_listen=address))
    certifier.server(lifetime=3 * tls.DAY)
    shown(world.target)

    def metrics() -> dict[str, str]:
        with urllib.request.urlopen(f"http://{address}/metrics") as answer:
            return dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines())

    assert soon(world, lambda: metrics()['identity_events_total{event="tls_reloaded"}'] == "1.0")
    values = metrics()
    expires = datetime.fromtimestamp(float(values["identity_tls_expire_time"]), UTC)
    assert timedelta(days=2, hours=23) < expires - datetime.now(UTC) <= timedelta(days=3)


_PAUSE = 0.01
"""The seconds between two calls on an open connection. Each replacement takes 0.25 s, so many calls fall into
it."""


@dataclass
class Load:
    """Threads that call Verify, some on open connections, the others on a new one for each call."""

    target: str
    certifier: Certifier
    holder: Holder
    request: pb.VerifyRequest
    metadata: tuple[tuple[str, str], ...]
    stopping: threading.Event = field(default_factory=threading.Event)
    failed: list[str] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=lambda: {"open": 0, "new": 0})
    lock: threading.Lock = field(default_factory=threading.Lock)

    def on_open(self) -> None:
        with self.certifier.channel(self.target, self.holder) as channel:
            while not self.stopping.wait(_PAUSE):
                self._call(channel, "open")

    def on_new(self) -> None:
        while not self.stopping.is_set():
            with self.certifier.channel(self.target, self.holder) as channel:
                self._call(channel, "new")

    def went_on_since(self, before: dict[str, int]) -> bool:
        """Return whether calls on open and on new connections have ended since `before` was recorded."""
        return all(self.done[kind] > before[kind] for kind in before)

    def _call(self, channel: grpc.Channel, kind: str) -> None:
        try:
            answer = rpc.IdentityServiceStub(channel).Verify(
                self.request, metadata=self.metadata, timeout=PATIENCE
            )
            wrong = "" if answer.HasField("verified") else f"{kind}: {answer}"
        except grpc.RpcError as error:
            wrong = f"{kind}: {error}"
        with self.lock:
            self.done[kind] += 1
            self.failed += [wrong] if wrong else []


def test_a_certificate_that_is_renewed_beside_many_handshakes_does_not_crash_the_process() -> None:
    """The core of gRPC frees the old certificate, which another handshake may still be reading."""
    program = [sys.executable, "-m", "tests.rpc.renewed_all_the_time"]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "handshakes" in ended.stdout


def test_no_call_fails_while_certificates_and_authorities_are_replaced(
    mutual: World, certifier: Certifier, tmp_path: Path
) -> None:
    """The certificates of the server are issued by two authorities in turn; the clients trust both."""
    other = Certifier(tmp_path / "other")
    own = certifier.file.read_bytes()
    trusting = Certifier(tmp_path / "trusting")
    tls.replace(trusting.file, own + other.file.read_bytes())
    holder = certifier.client("ana", "ana.example")
    with trusting.channel(mutual.target, holder) as channel:
        secure = replace(mutual, channel=channel)
        token = secure.issue(secure.new_client()).access_token
        metadata = bearer(secure.admin_token(["identity.verify"]))
    request = pb.VerifyRequest(token=token, any_audience=True)
    load = Load(mutual.target, trusting, holder, request, metadata)
    threads = [threading.Thread(target=run) for run in (load.on_open, load.on_new) for _ in range(3)]
    for thread in threads:
        thread.start()

    seen = set()
    try:
        for number in range(20):
            before = dict(load.done)
            made = (certifier, other)[number % 2].server("next")
            # The files are replaced one after the other: in between, the key does not match the certificate.
            tls.replace(certifier.file.parent / "server.key", made.key_file.read_bytes())
            tls.replace(certifier.file.parent / "server.pem", made.certificate_file.read_bytes())
            tls.replace(certifier.file, own + Certifier(tmp_path / "more").file.read_bytes())
            assert soon(mutual, lambda made=made: shown(mutual.target) == made.der)  # type: ignore[misc]
            seen.add(made.der)
            until(functools.partial(load.went_on_since, before))
    finally:
        load.stopping.set()
        for thread in threads:
            thread.join(timeout=PATIENCE)

    assert load.failed == []
    assert len(seen) == 20
    assert min(load.done.values()) >= 20
