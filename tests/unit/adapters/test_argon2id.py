"""argon2id: its hashes equal the library's, each takes one thread, and failures raise errors."""

import os
import sys
from typing import Any

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.adapters import argon2id
from identity_service.adapters.argon2id import (
    NoThreadError,
    hash_password,
    matches,
    parameters,
    prefix,
    thread_count,
)

CHEAP = parameters(passes=1, memory_kib=64, lanes=4)
COSTS = st.builds(
    parameters, passes=st.integers(1, 2), memory_kib=st.integers(64, 128), lanes=st.integers(1, 8)
)


@given(COSTS, st.text(max_size=40), st.text(max_size=40))
def test_the_library_verifies_our_hashes(cost: argon2.Parameters, password: str, other: str) -> None:
    phc = hash_password(cost, password)

    assert argon2.PasswordHasher().verify(phc, password)
    assert argon2.extract_parameters(phc) == cost
    if other != password:
        with pytest.raises(argon2.exceptions.VerifyMismatchError):
            argon2.PasswordHasher().verify(phc, other)


@given(COSTS, st.text(max_size=40), st.text(max_size=40), st.sampled_from(list(argon2.Type)))
def test_we_verify_the_hashes_of_the_library(
    cost: argon2.Parameters, password: str, other: str, kind: argon2.Type
) -> None:
    library = argon2.PasswordHasher(
        time_cost=cost.time_cost,
        memory_cost=cost.memory_cost,
        parallelism=cost.parallelism,
        hash_len=20,
        salt_len=9,
        type=kind,
    )
    phc = library.hash(password)

    assert matches(phc, password)
    assert matches(phc, other) is (other == password)


@given(st.data())
def test_a_hash_with_one_other_character_matches_nothing(data: st.DataObject) -> None:
    phc = hash_password(CHEAP, "any")
    digest = phc.rindex("$") + 1
    # Of the last character, two bits are not part of the hash.
    place = data.draw(st.integers(digest, len(phc) - 2))
    other = data.draw(st.sampled_from("ABCxyz019+/-_=$ é"))
    changed = phc[:place] + other + phc[place + 1 :]

    assert matches(changed, "any") is (changed == phc)


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "$",
        "$argon2id$v=19$",
        "$argon2id$v=19$m=64,t=1,p=4$$",
        "$argon2id$v=19$m=64,t=0,p=4$c2FsdHNhbHQ$aGFzaA",
        "$argon2id$v=19$m=64,t=1,p=-1$c2FsdHNhbHQ$aGFzaA",
        "$argon2id$v=19$m=64,t=99999999999,p=1$c2FsdHNhbHQ$aGFzaA",
    ],
)
def test_a_damaged_hash_matches_nothing(damaged: str) -> None:
    assert not matches(damaged, "")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the cores of this thread")
def test_a_hash_has_no_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    cores, used = os.sched_getaffinity(0), list[int]()

    def record(context: Any, kind: int) -> int:
        used.append(context.threads)
        assert context.lanes == CHEAP.parallelism
        return real(context, kind)

    real = argon2.low_level.core
    monkeypatch.setattr(argon2id, "core", record)
    os.sched_setaffinity(0, {min(cores)})
    try:
        phc = hash_password(CHEAP, "any")
        assert thread_count(1) == 1
    finally:
        os.sched_setaffinity(0, cores)

    assert matches(phc, "any")
    assert used == [1, min(CHEAP.parallelism, len(cores))]


@pytest.mark.parametrize(("code", "error"), [(-22, MemoryError), (-33, NoThreadError), (-2, ValueError)])
def test_no_hash_is_returned_if_the_library_fails(
    monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    monkeypatch.setattr(argon2id, "core", lambda context, kind: code)

    with pytest.raises(error):
        hash_password(CHEAP, "any")


@pytest.mark.parametrize(("code", "error"), [(-22, MemoryError), (-33, NoThreadError)])
def test_it_is_unknown_whether_a_password_matches_if_the_library_fails(
    monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    phc = hash_password(CHEAP, "any")
    monkeypatch.setattr(argon2id, "core", lambda context, kind: code)

    with pytest.raises(error):
        matches(phc, "any")


@given(COSTS, COSTS)
def test_hashes_begin_with_their_parameters(cost: argon2.Parameters, other: argon2.Parameters) -> None:
    phc = hash_password(cost, "any")

    assert phc.startswith(prefix(cost))
    assert phc.startswith(prefix(other)) is (other == cost)
