"""A site: one store, and several service processes on it under load.

The module sets the site up, measures how long it takes to recover, and makes the final checks. It ends the
processes that it started.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from identity_client import IdentityError, UnavailableError
from identity_service.composition.store_admin import open_store_admin
from identity_service.domain.secret import Secret
from identity_service.services.admin.administration import NewUser
from identity_service.settings import Settings
from tests.e2e.process import CHEAP_PASSWORDS, MASTER_KEY, Installation, Running
from tests.faults.history import History, Revocation
from tests.faults.load import PASSWORD, TOKEN_LIFETIME, Caller, Load, Principals
from tests.faults.report import BACK_WITHIN, Report
from tests.patience import PATIENCE, until
from tests.ports import reserve_port

_REFRESHES: Final = 50
_POLL: Final = 0.02
_LINES: Final = 10
"""The number of log lines that are shown of a process that does not come back."""
T = TypeVar("T")


class Site:
    """Service processes on one store, each by a URL of its own."""

    def __init__(
        self,
        folder: Path,
        store: str,
        urls: Sequence[str],
        *,
        max_staleness: float = 1.0,
        durability: str = "local",
        environments: Mapping[int, Mapping[str, str]] | None = None,
    ) -> None:
        """Prepare the processes.

        Args:
            store: where the store is without detours.
            urls: where each process finds it.
            environments: variables for single processes, as for another clock.
        """
        self.store = store
        self.history = History(bound=max_staleness)
        self.recoveries: list[float] = []
        self._ends: list[float] = []
        settings = {
            "IDENTITY_DURABILITY": durability,
            "IDENTITY_MAX_STALENESS": f"{max_staleness}s",
            "IDENTITY_HEARTBEAT_INTERVAL": "100ms",
            "IDENTITY_ACCESS_TOKEN_LIFETIME": f"{TOKEN_LIFETIME.total_seconds():.0f}s",
        }
        self._installations = []
        for number, url in enumerate([*urls, store]):
            own = folder / f"process-{number}"
            own.mkdir()
            self._installations.append(
                Installation(own, url, settings | dict((environments or {}).get(number, {})), forked=True)
            )
        self._ports = [reserve_port() for _ in urls]
        self.services: list[Running] = []
        self.callers: list[Caller] = []
        self._principals: Principals | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Initialise the store and start every process."""
        principals = self._principals = _set_up(self.store, len(self._ports))
        with ExitStack() as stack:
            with ThreadPoolExecutor() as pool:
                starts = [pool.submit(self.start, number) for number in range(len(self._ports))]
            self.services = [start.result() for start in starts]
            stack.callback(self._end)
            for number, service in enumerate(self.services):
                caller = Caller(service.target, number, principals, self.history)
                stack.callback(caller.close)
                self.callers.append(caller)
            yield

    def start(self, number: int) -> Running:
        """Start a process; put it in `services` where it takes the place of one that was killed."""
        return self._installations[number].serve(port=self._ports[number])

    def load(self) -> Load:
        return Load(self.callers, self.history)

    def recover(self) -> float:
        """Seconds from now until every process serves, and issues, verifies, refreshes and revokes."""
        begun = time.monotonic()
        self._ends.append(begun)
        for caller in self.callers:
            try:
                until(partial(_is_back, caller), PATIENCE)
            except TimeoutError as error:
                raise AssertionError(self._why_not_back(caller.process)) from error
        took = time.monotonic() - begun
        self.recoveries.append(took)
        return took

    def serving(self, number: int) -> bool:
        """Return the answer of the health service of a process."""
        return _is_serving(self.callers[number])

    def conclude(self, fault: str, rounds: int, folder: Path) -> Report:
        """Verify every acknowledged revocation on every process, and on one that has just started."""
        revocations = self.history.revocations
        lost = []
        for caller in self.callers:
            lost += [
                f"verified on {caller.process}: {known}" for known in _still_verified(caller, revocations)
            ]
        principals = self._principals
        assert principals is not None
        with self._installations[-1].serve() as service:
            # The new process answers for all revocations, and has no fault to notice: its timeout is long.
            newcomer = Caller(service.target, len(self.callers), principals, self.history, timeout=PATIENCE)
            verified = _answered(partial(newcomer.verified_of, revocations))
            lost += [f"verified on a new one: {known}" for known in verified]
            sessions = [known for known in revocations if known.refresh_token][-_REFRESHES:]
            refreshed = _answered(partial(newcomer.refreshed, sessions))
            lost += [f"refreshed on a new one: {known}" for known in refreshed]
            newcomer.close()
        history = self.history
        report = Report(
            fault=fault,
            rounds=rounds,
            processes=len(self.callers),
            revocations=len(revocations),
            answers=history.counts["answers about revoked tokens"],
            exposures=len(history.violations),
            longest_exposure=round(history.longest_exposure, 3),
            exposed_for=round(self._exposed_for(), 3),
            lost=lost,
            repaired=self._repaired(),
            recoveries=[round(took, 3) for took in self.recoveries],
            counts=dict(sorted(history.counts.items())),
            mistakes=list(history.mistakes),
            first_exposures=history.violations[:10],
        )
        report.publish(folder)
        return report

    def _repaired(self) -> int:
        """Return the number of facts that the processes reported as absent from the store."""
        lines = [line for process in self._installations[:-1] for line in process.log.splitlines()]
        repairs = [json.loads(line) for line in lines if '"log_repaired"' in line]
        return sum(repair["absent"] for repair in repairs)

    def _why_not_back(self, number: int) -> str:
        history, log = self.history, self._installations[number].log
        last = [line for line in log.splitlines() if '"rpc"' not in line][-_LINES:]
        return (
            f"process {number} is not back (exit code {self.services[number].process.poll()}): "
            f"{history.counts}, {history.mistakes}, {last}"
        )

    def _exposed_for(self) -> float:
        spans = [
            violation - max(ends)
            for violation in self.history.violation_times
            if (ends := [end for end in self._ends if end <= violation])
        ]
        return max(spans, default=0.0)

    def _end(self) -> None:
        for service in self.services:
            if service.process.poll() is None:
                service.kill()


def _set_up(store: str, processes: int) -> Principals:
    """Set the store up as the command line does, without starting a process for each step."""
    password = Secret(PASSWORD)
    cheap = {name.removeprefix("IDENTITY_").lower(): int(value) for name, value in CHEAP_PASSWORDS.items()}
    settings = Settings.model_validate({"store": store, "master_key": MASTER_KEY, **cheap})
    with open_store_admin(settings) as store_admin:
        admin = store_admin.initialise()
        create = store_admin.administrator.users.create
        create(NewUser(username="ana", password=password, audiences=("api",)))
        names = [f"bob-{number}" for number in range(processes)]
        users = [
            create(NewUser(username=name, password=password, audiences=("api",))).record for name in names
        ]
    return Principals(
        client_id=admin.client_id,
        client_secret=admin.client_secret.reveal(),
        user="ana",
        revoked_users=[(user.username, user.user_id) for user in users],
    )


def _is_serving(caller: Caller) -> bool:
    stub = health_pb2_grpc.HealthStub(caller.channel)
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
    except grpc.RpcError:  # a process that does not answer in time does not serve
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _is_back(caller: Caller) -> bool:
    try:
        caller.round_trip()
        return _is_serving(caller)
    except IdentityError:
        return False


def _still_verified(caller: Caller, revocations: Sequence[Revocation]) -> Sequence[Revocation]:
    """Return the revocations that the process does not know, after the time that a repair may take."""
    deadline = time.monotonic() + BACK_WITHIN
    while True:
        is_late = time.monotonic() >= deadline
        unknown = _answered(partial(caller.verified_of, revocations))
        if not unknown or is_late:
            return unknown
        time.sleep(_POLL)


def _answered(ask: Callable[[], T]) -> T:
    """Ask again while a process says that it cannot know, for a while.

    Not all threads see at once that a clock was set, and on a busy machine a heartbeat may be late.
    """
    deadline = time.monotonic() + BACK_WITHIN
    while True:
        is_late = time.monotonic() >= deadline
        try:
            return ask()
        except UnavailableError:
            if is_late:
                raise
        time.sleep(_POLL)
