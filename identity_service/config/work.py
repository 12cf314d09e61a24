"""The settings of the work of a process: threads, memory, and the price of a password."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, Field

from identity_service.config.values import Duration, whole, within


class WorkSettings(BaseModel):
    """The threads, processes and memory of a service, and the price of a guess; a part of `Settings`."""

    workers: int = whole(
        0, 0, 256, "worker processes that share the port, restarted when they end, 0 = a single process"
    )
    pin_workers: bool = Field(
        default=True,
        description="keep each worker on one core, if there are as many workers as cores (Linux)",
    )
    verify_threads: int = whole(4, 1, 64, "threads that answer from memory")
    work_threads: int = whole(40, 2, 256, "threads that may wait for the store, see password_queue")
    password_processes: int = whole(
        1, 1, 32, "processes that hash passwords, argon2_memory_kib and 13 MiB each"
    )
    password_queue: int = whole(
        16,
        0,
        200,
        "passwords that may wait for a process, and sign-ins that may wait for others of a user, together "
        "with password_processes less than work_threads",
    )
    strong_limit: int = whole(
        2, 1, 64, "Verify calls that may wait for the store at once, less than verify_threads"
    )
    cache_bytes: int = Field(
        64 * 1024 * 1024,
        ge=0,
        le=16 * 1024**3,
        description="memory for tokens that were verified, about 5 KiB each; 0 to 16 GiB",
    )
    argon2_time_cost: int = whole(3, 1, 100, "passes of argon2id (RFC 9106)")
    argon2_memory_kib: int = Field(
        65536, ge=8, le=2**22, description="memory of argon2id in KiB; 8 for each lane to 4 GiB"
    )
    argon2_parallelism: int = whole(4, 1, 64, "lanes of argon2id")
    attempts_per_username: int = whole(
        5, 1, 100, "wrong passwords for one username from one address before the next must wait"
    )
    attempts_per_peer: int = whole(
        100,
        0,
        1_000_000,
        "wrong credentials from one address before the next must wait, 0 = not counted (behind a proxy that "
        "hides them)",
    )
    attempts_lockout: Annotated[Duration, within("1s", "24h")] = Field(
        timedelta(minutes=15), description="the longest wait after wrong credentials; 1s to 24h"
    )

    def _wrong_work(self) -> Iterator[str]:
        """Report each invalid combination of these settings."""
        if self.strong_limit >= self.verify_threads > 1:
            yield "strong_limit: must be less than verify_threads"
        if self.password_processes + self.password_queue >= self.work_threads:
            yield "work_threads: must be more than password_processes and password_queue together"
        if self.argon2_memory_kib < 8 * self.argon2_parallelism:
            # RFC 9106 section 3.1; the library would report it only when the first password is hashed.
            yield "argon2_memory_kib: must be at least 8 for each of argon2_parallelism"
