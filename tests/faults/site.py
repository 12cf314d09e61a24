"""A site for fault tests: one store, and several service processes that use it, under load.

The module sets the site up, measures how long it takes to recover from a fault, and makes the final checks.
It stops the processes that it started.
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
"""Number of log lines to show if a process does not recover."""
T = TypeVar("T")


class Site:
    """Several service processes on one store; each has its own URL of the store, such as that of a proxy."""

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
            folder: where each process gets a folder of its own.
            store: URL of the store without a proxy, for the set-up and for the process of the final check.
            urls: URL of the store for each process under load.
            max_staleness: seconds after which a process must not answer from stale data.
            durability: the setting IDENTITY_DURABILITY.
            environments: environment variables for single processes, by number, for example to set a clock.
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
        """Initialise the store, start every process, and stop the processes at the end of the block."""
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
        """Start the process with this number; the caller puts it in `services` if it replaces another."""
        return self._installations[number].serve(port=self._ports[number])

    def load(self) -> Load:
        return Load(self.callers, self.history)

    def recover(self) -> float:
        """Wait until all processes serve and all calls succeed; return how many seconds that took."""
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
        """Return whether the health service of the process with this number reports SERVING."""
        return _is_serving(self.callers[number])

    def conclude(self, fault: str, rounds: int, folder: Path) -> Report:
        """Verify the token of each acknowledged revocation on every process, and on a newly started one."""
        revocations = self.history.revocations
        lost = []
        for caller in self.callers:
            lost += [
                f"verified on {caller.process}: {known}" for known in _still_verified(caller, revocations)
            ]
        principals = self._principals
        assert principals is not None
        with self._installations[-1].serve() as service:
            # One call verifies up to 1,000 tokens, and no fault is to be detected: the timeout is long.
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
        """Return how many lost facts the processes have appended to the store again, by their logs."""
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
    """Initialise the store and create the principals without the command line, which would be slow."""
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
    """Return the revocations whose token the process still accepts when the time for a repair has passed."""
    deadline = time.monotonic() + BACK_WITHIN
    while True:
        is_late = time.monotonic() >= deadline
        unknown = _answered(partial(caller.verified_of, revocations))
        if not unknown or is_late:
            return unknown
        time.sleep(_POLL)


def _answered(ask: Callable[[], T]) -> T:
    """Return the result of `ask`, retrying for up to `BACK_WITHIN` seconds while the service is unavailable.

    A process may be unavailable after a fault because its threads notice a changed clock at different times,
    or because a heartbeat is late on a busy machine.
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
