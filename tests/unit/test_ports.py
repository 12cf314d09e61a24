"""Loopback ports that tests reserve: each belongs to one process until that process ends."""

import socket
import subprocess
import sys

import pytest

from tests.ports import LOOPBACK, PortReservation, _blocks, refusing_address, reserve_port

ELSEWHERE = """
import sys
from tests.ports import PortReservation
reservation = PortReservation([range(*map(int, argument.split("-"))) for argument in sys.argv[1:]])
try:
    print(reservation.take(), flush=True)
except RuntimeError:
    print("none", flush=True)
sys.stdin.read()
"""


def taken_elsewhere(*blocks: range) -> "subprocess.Popen[str]":
    """Start another process, which reserves a port until its input is closed; yield the port."""
    return subprocess.Popen(
        [sys.executable, "-c", ELSEWHERE, *(f"{block.start}-{block.stop}" for block in blocks)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wide_block() -> range:
    """Reserve three consecutive ports of this process, and no port that marks a block as owned."""
    while True:
        first = reserve_port()
        if [reserve_port(), reserve_port()] == [first + 1, first + 2]:
            return range(first, first + 3)


def test_two_processes_are_never_given_ports_of_the_same_block() -> None:
    block = wide_block()
    mine = PortReservation([block])
    port = mine.take()
    try:
        with taken_elsewhere(block) as other:
            assert other.communicate()[0] == "none\n"
    finally:
        mine.close()
    with taken_elsewhere(block) as other:
        assert other.communicate()[0] == f"{port}\n"


def test_a_block_is_free_again_once_its_process_was_killed() -> None:
    block = wide_block()
    with taken_elsewhere(block) as other:
        assert other.stdout is not None
        taken = other.stdout.readline()
        mine = PortReservation([block])
        with pytest.raises(RuntimeError, match="no block of ports is free"):
            mine.take()
        other.kill()
        other.wait()

    assert f"{mine.take()}\n" == taken
    mine.close()


def test_a_port_that_a_stranger_serves_on_is_passed_over() -> None:
    block = wide_block()
    mine = PortReservation([block])
    with socket.create_server((LOOPBACK, block[1])):
        assert mine.take() == block[2]
    mine.close()


def test_no_outgoing_connection_is_given_a_reserved_port() -> None:
    """The kernel takes the local port of a connection from a range without the reserved ports."""
    found = _blocks((32768, 60999))

    assert all(block[-1] < 32768 or block.start > 60999 for block in found)
    assert len(found) > 300
    assert _blocks((1024, 65535)), "where that range is everything, blocks still keep test runs apart"


def test_a_reserved_port_can_be_served_on_again_and_again() -> None:
    port = reserve_port()
    for _ in range(3):
        with (
            socket.create_server((LOOPBACK, port)) as server,
            socket.create_connection((LOOPBACK, port)),
        ):
            server.accept()[0].close()  # this end closes first: its connection lingers in TIME_WAIT


def test_no_process_answers_at_a_refusing_address_or_can_take_it() -> None:
    with refusing_address() as address:
        place = (LOOPBACK, int(address.rpartition(":")[2]))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place)
        with pytest.raises(OSError, match="in use"):
            socket.create_server(place)
