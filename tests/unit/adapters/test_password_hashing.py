"""Password hashing: only the right password matches; processes have low priority, are replaced, and end."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from identity_service.adapters import password_hashing
from identity_service.adapters.argon2id import NoThreadError, hash_password, parameters
from identity_service.adapters.password_hashing import (
    Argon2Config,
    Argon2Hasher,
    end_processes,
    shared_pool,
)
from identity_service.domain.errors import (
    ConfigurationError,
    NotReadyError,
    ServerBusyError,
    ShuttingDownError,
)
from identity_service.domain.secret import Secret
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CHEAP = Argon2Config(time_cost=1, memory_kib=64, parallelism=1)
RIGHT = Secret("correct horse battery staple")


@pytest.fixture
def hasher() -> Argon2Hasher:
    return Argon2Hasher(CHEAP)


def worker() -> int:
    """Return the process id of the child process that hashes passwords."""
    return shared_pool(CHEAP.processes).run(os.getpid)


def ends(pid: int) -> bool:
    """Return whether the process ends (perhaps as a zombie) within the deadline of the tests."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(("shown", "right"), [(RIGHT, True), (Secret("correct horse"), False)])
def test_the_right_password_alone_is_right(hasher: Argon2Hasher, shown: Secret, right: bool) -> None:
    assert hasher.verify(hasher.hash(RIGHT), shown) is right


def test_no_password_is_right_for_an_unknown_user(hasher: Argon2Hasher) -> None:
    assert not hasher.verify(None, Secret("the password of nobody"))


def test_the_password_of_an_unknown_user_is_compared_at_the_full_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costly = Argon2Hasher(Argon2Config(time_cost=2, memory_kib=64, parallelism=1))
    compared: list[str] = []
    monkeypatch.setattr(costly, "_run", lambda work, phc, password: compared.append(phc))

    costly.verify(None, RIGHT)

    assert [costly.is_outdated(phc) for phc in compared] == [False]


def test_a_machine_without_memory_for_a_hash_is_refused_at_start() -> None:
    with pytest.raises(ConfigurationError, match="argon2_memory_kib"):
        Argon2Hasher(Argon2Config(time_cost=3, memory_kib=2**31, parallelism=1))


def test_two_ways_to_write_a_letter_are_one_password(hasher: Argon2Hasher) -> None:
    composed, decomposed = Secret("caf\u00e9 au lait"), Secret("cafe\u0301 au lait")

    assert hasher.verify(hasher.hash(composed), decomposed)


def test_a_damaged_hash_matches_nothing(hasher: Argon2Hasher) -> None:
    assert not hasher.verify("$argon2id$v=19$", RIGHT)


def test_hashing_has_a_process_of_its_own_that_gives_way_to_all_others() -> None:
    pid = worker()

    assert pid != os.getpid()
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19


def test_a_signal_of_the_terminal_does_not_reach_the_process() -> None:
    pid = worker()

    assert os.getpgid(pid) == pid


def test_the_process_imports_little() -> None:
    end_processes()
    loaded = set(shared_pool(CHEAP.processes).run(eval, "[*__import__('sys').modules]"))

    assert not {"multiprocessing", "pydantic", "structlog", "concurrent.futures"} & loaded


def test_a_caller_whose_process_ends_is_asked_to_retry_and_then_served(hasher: Argon2Hasher) -> None:
    phc = hasher.hash(RIGHT)
    os.kill(worker(), signal.SIGKILL)

    with pytest.raises(ServerBusyError, match="try again"):
        hasher.verify(phc, RIGHT)

    assert hasher.verify(phc, RIGHT)


def test_the_process_ends_when_its_parent_is_killed() -> None:
    program = textwrap.dedent("""
        import os, time
        from identity_service.adapters.password_hashing import shared_pool
        print(shared_pool(1).run(os.getpid), flush=True)
        time.sleep(60)
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()

    assert ends(pid)


def test_without_memory_no_password_is_wrong(hasher: Argon2Hasher) -> None:
    """Hashing fails, since the cost is two tebibytes of memory; that must not count as a wrong password."""
    right = hasher.hash(RIGHT)
    dear = right.replace("m=64,", f"m={2**31},")
    assert dear != right

    with pytest.raises(ServerBusyError, match="no memory"):
        hasher.verify(dear, RIGHT)
    with pytest.raises(ServerBusyError, match="no memory"):
        Argon2Hasher._run(hasher, hash_password, parameters(passes=1, memory_kib=2**31, lanes=1), "any")
    assert hasher.verify(right, RIGHT), "the next one is checked"


def find_no_thread() -> str:
    """Raise what the library raises if the operating system gives it no thread."""
    raise NoThreadError


def test_without_threads_no_password_is_wrong(hasher: Argon2Hasher) -> None:
    with pytest.raises(NotReadyError, match="no thread"):
        Argon2Hasher._run(hasher, find_no_thread)


def test_processes_that_hang_are_ended_and_their_callers_get_an_error(hasher: Argon2Hasher) -> None:
    pid = worker()
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(hasher.hash, RIGHT) for _ in range(4)]
        until(lambda: hasher.open == len(calls))

        end_processes()

        for call in calls:
            assert isinstance(call.exception(PATIENCE), ShuttingDownError)
    assert ends(pid)


def test_if_no_process_can_be_started_passwords_are_refused_and_the_start_is_retried(
    hasher: Argon2Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        end_processes()
        patch.setattr(password_hashing, "_start", refuse)
        with pytest.raises(ServerBusyError):
            hasher.hash(RIGHT)
    assert hasher.verify(hasher.hash(RIGHT), RIGHT)
