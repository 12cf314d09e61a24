"""Limits on calls: how they are counted for each address, and which calls are refused."""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.errors import ServerBusyError
from identity_service.transport.limits import Bound, Limits, LimitsConfig
from identity_service.transport.quotas import UNIX, AddressBusyError, Peers, Quota
from tests.fakes.event_logs import RecordingEventLog

ATTACKER, OTHER, EXEMPT = "192.0.2.1", "192.0.2.2", ""


def quota(total: int, per_peer: int, refused: Callable[[str, str], None] = lambda *_: None) -> Quota:
    return Quota("max_calls", "open calls", refused, total=total, per_peer=per_peer)


def brief_quota(total: int, per_peer: int) -> Quota:
    """Return a counter of calls that may exceed the limit of their address for a short time."""
    return Quota(
        "max_receives", "unfinished requests", lambda *_: None, lambda _: True, total=total, per_peer=per_peer
    )


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:5000", "2001:db8::/64"),
        ("ipv6:%5B2001:db8::ffff:1%5D:6000", "2001:db8::/64"),
        ("ipv6:%5B2001:db8:0:1::1%5D:5000", "2001:db8:0:1::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:5000", "192.0.2.1"),
        ("ipv4:127.0.0.1:5000", ""),
        ("ipv6:%5B::1%5D:5000", ""),
        ("ipv6:%5B::ffff:127.0.0.1%5D:5000", ""),
        ("ipv4:127.0.0.2:5000", "127.0.0.2"),
        ("unix:", ""),
        ("unix:/run/identity.sock", ""),
        ("ipv4:nonsense", "ipv4:nonsense"),
    ],
)
def test_a_connection_counts_for_its_address_unless_that_is_exempt(peer: str, address: str) -> None:
    assert Peers(LimitsConfig().exempt).address_of(peer) == address


def test_networks_are_exempt_as_a_whole_and_unix_sockets_only_if_they_are_named() -> None:
    peers = Peers(("10.0.0.0/8", "2001:db8::/32"))

    assert peers.address_of("ipv4:10.1.2.3:5000") == ""
    assert peers.address_of("ipv6:%5B2001:db8:7::1%5D:5000") == ""
    assert peers.address_of("ipv4:127.0.0.1:5000") == "127.0.0.1"
    assert peers.address_of("unix:") == UNIX


def test_a_connection_of_a_trusted_proxy_is_exempt_but_a_call_that_it_forwards_is_not() -> None:
    peers, proxy = Peers((), ("192.0.2.1",)), "ipv4:192.0.2.1:5000"

    def metadata(*values: str | bytes) -> Callable[[], Iterable[tuple[str, str | bytes]]]:
        return lambda: [("x-forwarded-for", value) for value in values]

    assert peers.connection_address_of(proxy) == ""
    assert peers.connection_address_of("ipv4:192.0.2.2:5000") == "192.0.2.2"
    assert peers.connection_address_of("unix:") == UNIX
    assert peers.address_of_call(proxy, metadata("203.0.113.9")) == "203.0.113.9"
    assert peers.address_of_call(proxy, metadata("2001:db8::1")) == "2001:db8::/64"
    assert peers.address_of_call(proxy, metadata("nonsense")) == "192.0.2.1"
    assert peers.address_of_call(proxy, metadata(b"203.0.113.9")) == "192.0.2.1"
    assert peers.address_of_call(proxy, metadata()) == "192.0.2.1"


def test_one_address_is_refused_beyond_its_bound_and_the_others_are_not() -> None:
    open_calls = quota(total=10, per_peer=2)
    open_calls.acquire(ATTACKER)
    open_calls.acquire(ATTACKER)

    with pytest.raises(ServerBusyError, match=r"too many open calls from your address \(2\)"):
        open_calls.acquire(ATTACKER)
    open_calls.acquire(OTHER)
    open_calls.release(ATTACKER)
    open_calls.acquire(ATTACKER)


def test_an_exempt_address_counts_in_all_only() -> None:
    open_calls = quota(total=3, per_peer=1)
    for _ in range(3):
        open_calls.acquire(EXEMPT)

    with pytest.raises(ServerBusyError, match=r"too many open calls on this process \(3\)"):
        open_calls.acquire(EXEMPT)


def test_a_bound_of_zero_refuses_every_call() -> None:
    with pytest.raises(ServerBusyError):
        quota(total=0, per_peer=0).acquire(EXEMPT)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([ATTACKER, OTHER, EXEMPT]))))
def test_open_calls_never_exceed_a_bound_and_clients_that_left_are_forgotten(
    steps: list[tuple[bool, str]],
) -> None:
    counted, held = quota(total=5, per_peer=3), list[str]()
    for takes, address in steps:
        if takes:
            free = len(held) < 5 and (address == EXEMPT or held.count(address) < 3)
            if free:
                counted.acquire(address)
                held.append(address)
            else:
                with pytest.raises(ServerBusyError):
                    counted.acquire(address)
        elif address in held:
            held.remove(address)
            counted.release(address)
        assert counted.open == len(held)
        assert counted.addresses == len(set(held) - {EXEMPT})


def test_each_refusal_is_counted_and_one_line_in_ten_seconds_has_their_number() -> None:
    now = [100.0]
    event_log = RecordingEventLog()
    config = LimitsConfig(calls=Bound(total=10, per_peer=1))
    limits = Limits(config, event_log, monotonic=lambda: now[0])
    limits.calls.acquire(ATTACKER)

    for moment in (100.0, 101.0, 109.9, 110.0):
        now[0] = moment
        with pytest.raises(ServerBusyError):
            limits.calls.acquire(ATTACKER)

    assert limits.refusals["max_calls_per_peer"] == 4
    assert limits.refusals["max_calls"] == 0
    assert event_log.named("limit_reached") == [
        {"setting": "max_calls_per_peer", "times": 1, "peers": 1, "peer": ATTACKER},
        {"setting": "max_calls_per_peer", "times": 3, "peers": 1, "peer": ATTACKER},
    ]


def test_a_line_about_a_limit_counts_the_addresses_and_names_a_single_one_only() -> None:
    now = [0.0]
    event_log = RecordingEventLog()
    limits = Limits(LimitsConfig(), event_log, monotonic=lambda: now[0])

    for moment, address in (
        (0, ATTACKER),
        (1, ATTACKER),
        (2, EXEMPT),
        (3, ATTACKER),
        (10, OTHER),
        (20, EXEMPT),
    ):
        now[0] = moment
        limits.hit("send_timeout", address)

    assert event_log.named("limit_reached") == [
        {"setting": "send_timeout", "times": 1, "peers": 1, "peer": ATTACKER},
        {"setting": "send_timeout", "times": 4, "peers": 3},
        {"setting": "send_timeout", "times": 1, "peers": 1, "peer": EXEMPT},
    ]


def test_addresses_are_counted_up_to_a_bound() -> None:
    now = [0.0]
    event_log = RecordingEventLog()
    limits = Limits(LimitsConfig(), event_log, monotonic=lambda: now[0])
    limits.hit("send_timeout", ATTACKER)

    for number in range(3000):
        limits.hit("send_timeout", f"peer {number}")
    now[0] = 10.0
    limits.hit("send_timeout", ATTACKER)

    assert event_log.named("limit_reached")[-1] == {"setting": "send_timeout", "times": 3001, "peers": 1000}


def test_a_brief_request_may_exceed_the_bound_of_its_address() -> None:
    requests = brief_quota(total=4, per_peer=1)

    assert [requests.acquire(ATTACKER) for _ in range(2)] == [False, True]

    assert (requests.open, requests.addresses) == (2, 1)
    for _ in range(2):
        requests.release(ATTACKER)
    assert (requests.open, requests.addresses) == (0, 0)


def test_brief_requests_leave_half_of_the_bound_in_all_to_other_addresses() -> None:
    requests = brief_quota(total=6, per_peer=1)
    for _ in range(3):
        requests.acquire(ATTACKER)

    with pytest.raises(ServerBusyError, match=r"from your address \(1\)"):
        requests.acquire(ATTACKER)

    for address in (OTHER, EXEMPT, EXEMPT):
        assert not requests.acquire(address)
    with pytest.raises(ServerBusyError, match=r"on this process \(6\)"):
        requests.acquire(EXEMPT)


def test_an_address_that_used_up_the_time_to_send_gets_none_for_five_seconds_and_others_do() -> None:
    now = [100.0]
    event_log = RecordingEventLog()
    config = LimitsConfig(receives=Bound(total=100, per_peer=1))
    limits = Limits(config, event_log, monotonic=lambda: now[0])
    assert [limits.receives.acquire(ATTACKER) for _ in range(2)] == [False, True]
    limits.receives.release(ATTACKER)

    error = limits.late_request(ATTACKER, beyond=True)

    assert "from your address (1)" in str(error)
    with pytest.raises(AddressBusyError):
        limits.receives.acquire(ATTACKER)
    assert [limits.receives.acquire(OTHER) for _ in range(2)] == [False, True]
    assert limits.refusals["max_receives_per_peer"] == 2
    assert [event["peer"] for event in event_log.named("limit_reached")] == [ATTACKER]
    now[0] += 5.0
    assert limits.receives.acquire(ATTACKER)


def test_an_address_that_used_up_the_time_to_send_may_send_as_many_requests_as_its_bound() -> None:
    limits = Limits(LimitsConfig(receives=Bound(total=100, per_peer=2)), RecordingEventLog())
    limits.late_request(ATTACKER, beyond=True)

    assert [limits.receives.acquire(ATTACKER) for _ in range(2)] == [False, False]


def test_calls_beyond_the_bound_of_their_address_wait_to_be_refused_and_never_those_of_a_full_process() -> (
    None
):
    limits = Limits(
        LimitsConfig(calls=Bound(total=200, per_peer=1)), RecordingEventLog(), monotonic=lambda: 9.0
    )
    limits.calls.acquire(ATTACKER)
    delays = []
    for _ in range(100):
        with pytest.raises(AddressBusyError) as beyond:
            limits.calls.acquire(ATTACKER)
        delays.append(limits.seconds_until_refused(beyond.value))
    for _ in range(199):
        limits.calls.acquire(EXEMPT)

    with pytest.raises(ServerBusyError) as full:
        limits.calls.acquire(ATTACKER)

    assert (delays[0], delays[-1] > 0) == (0.0, True)
    assert limits.seconds_until_refused(full.value) == 0.0
