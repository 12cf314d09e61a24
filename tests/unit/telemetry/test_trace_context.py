"""The header `traceparent` that a client sends: parsed strictly, whatever its text is."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.telemetry.call_ids import TraceContext, read_context, trace_fields

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
HEX = st.text("0123456789abcdef", min_size=1)


def of(parent: str, *states: str) -> TraceContext | None:
    return read_context([("traceparent", parent), *(("tracestate", state) for state in states)])


def state_of(*states: str) -> tuple[tuple[str, str], ...]:
    found = of(PARENT, *states)
    assert found is not None
    return found.state


@given(
    trace=st.integers(1, 2**128 - 1),
    span=st.integers(1, 2**64 - 1),
    flags=st.integers(0, 255),
)
def test_a_context_is_read_as_it_was_written(trace: int, span: int, flags: int) -> None:
    found = of(f"00-{trace:032x}-{span:016x}-{flags:02x}")

    assert found == TraceContext(trace_id=f"{trace:032x}", span_id=f"{span:016x}", is_sampled=bool(flags & 1))


@given(
    st.one_of(
        st.text(),
        st.text("0123456789abcdefABCDEF-", min_size=50, max_size=60),
        st.builds("{}-{}-{}-{}".format, HEX, HEX, HEX, HEX),
    )
)
def test_any_other_text_is_refused_or_has_ids_of_the_right_form(text: str) -> None:
    found = of(text)

    if found is None:
        assert trace_fields([("traceparent", text)]) == {}
        return
    assert trace_fields([("traceparent", text)]) == {"trace_id": found.trace_id}
    for part, length in ((found.trace_id, 32), (found.span_id, 16)):
        assert len(part) == length
        assert set(part) <= set("0123456789abcdef")
        assert int(part, 16) > 0
    assert found.trace_id in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f" {PARENT}",
        f"{PARENT}\n",
        f"01-{TRACE}-{SPAN}-01.more",
        f"01-{TRACE}-{SPAN}-01-{'x' * 1000}",
    ],
)
def test_a_malformed_parent_counts_as_absent(text: str) -> None:
    assert of(text) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert of(f"01-{TRACE}-{SPAN}-01-more") == of(PARENT)


def test_two_parents_count_as_none() -> None:
    assert read_context([("traceparent", PARENT)] * 2) is None
    assert trace_fields([("traceparent", PARENT)] * 2) == {}


def test_bytes_are_no_parent() -> None:
    assert read_context([("traceparent", PARENT.encode())]) is None
    assert trace_fields([("traceparent", PARENT.encode())]) == {}


def test_a_state_may_be_in_several_headers_and_have_empty_members() -> None:
    assert state_of("a=1, \tb@c=2 ,", "", "d/e=3") == (("a", "1"), ("b@c", "2"), ("d/e", "3"))


@pytest.mark.parametrize(
    "state",
    [
        "a",
        "a=",
        "A=1",
        "a=1=2",
        "a=1,a=2",
        "a=\x1b[2J",
        "a=é",
        f"a={'1' * 257}",
        ",".join(f"k{number}=1" for number in range(33)),
        ",".join(f"k{number}={'1' * 200}" for number in range(3)),
    ],
)
def test_a_malformed_state_counts_as_absent(state: str) -> None:
    assert state_of(state) == ()


@given(st.lists(st.text(string.printable)))
def test_no_state_is_longer_than_its_bound_or_has_anything_but_visible_characters(states: list[str]) -> None:
    found = state_of(*states)

    text = ",".join(f"{key}={value}" for key, value in found)
    assert len(text) <= 512
    assert text.isprintable()
