"""The settings of the work of a process: threads, memory, and the price of a password."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, Field

from identity_service.config.values import Duration, within


class WorkSettings(BaseModel):
    """The threads, processes and memory of a service, and the price of a guess; a part of `Settings`."""

    workers: int = Field(
        0,
        ge=0,
        le=256,
        description="worker processes that share the port, restarted when they end; 0 = a single process",
    )
    pin_workers: bool = Field(
        default=True,
        description="keep each worker on one core, if there are as many workers as cores (Linux)",
    )
    verify_threads: int = Field(4, ge=1, le=64, description="threads that answer from memory; 1 to 64")
    work_threads: int = Field(
        40, ge=2, le=256, description="threads that may wait for the store; 2 to 256, see password_queue"
    )
    password_processes: int = Field(
        1,
        ge=1,
        le=32,
        description="processes that hash passwords, argon2_memory_kib and 25 MiB each; 1 to 32",
    )
    password_queue: int = Field(
        16,
        ge=0,
        le=200,
        description="passwords that may wait for a process, and sign-ins that may wait for others of a "
        "user; together with password_processes less than work_threads",
    )
    strong_limit: int = Field(
        2,
        ge=1,
        le=64,
        description="Verify calls that may wait for the store at once; less than verify_threads",
    )
    cache_bytes: int = Field(
        64 * 1024 * 1024,
        ge=0,
        le=16 * 1024**3,
        description="memory for tokens that were verified, about 5 KiB each; 0 to 16 GiB",
    )
    argon2_time_cost: int = Field(3, ge=1, le=100, description="passes of argon2id (RFC 9106); 1 to 100")
    argon2_memory_kib: int = Field(
        65536, ge=8, le=2**22, description="memory of argon2id in KiB; 8 for each lane to 4 GiB"
    )
    argon2_parallelism: int = Field(4, ge=1, le=64, description="lanes of argon2id; 1 to 64")
    attempts_per_username: int = Field(
        5,
        ge=1,
        le=100,
        description="wrong passwords for one username from one address before the next must wait; 1 to 100",
    )
    attempts_per_peer: int = Field(
        100,
        ge=0,
        le=1_000_000,
        description="wrong credentials from one address before the next must wait; 0 to 1,000,000, 0 = not "
        "counted (behind a proxy that hides them)",
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
