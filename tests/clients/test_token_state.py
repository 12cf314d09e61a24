"""The states of a source's token, tested without threads and with a clock that the test moves."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_client import TokenSet
from identity_client.token_state import INVALIDATION_INTERVAL, INVALIDATIONS, LONGEST_PAUSE, Phase, TokenState

HOUR = 3600.0


def tokens(name: str, refresh: str = "") -> TokenSet:
    return TokenSet(
        access_token=name,
        token_type="Bearer",
        expire_time=datetime.now(UTC),
        refresh_token=refresh,
        refresh_expire_time=None,
        audiences=(),
        scopes=(),
        token_id=f"id-of-{name}",
        session_id="",
    )


@pytest.fixture
def state() -> TokenState:
    """The state of a source whose random numbers are the middle of their range."""
    return TokenState(uniform=lambda low, high: (low + high) / 2)


def test_a_token_is_fresh_for_three_quarters_of_its_life_then_stale_then_expired(state: TokenState) -> None:
    assert state.phase(0.0) is Phase.EXPIRED

    state.accept(tokens("one"), issued=100.0, lifetime=HOUR)

    moments = [100.0, 100.0 + 0.7499 * HOUR, 100.0 + 0.7501 * HOUR, 99.9 + HOUR, 100.0 + HOUR]
    phases = [Phase.FRESH, Phase.FRESH, Phase.STALE, Phase.STALE, Phase.EXPIRED]
    assert [state.phase(now) for now in moments] == phases
    assert state.remaining(HOUR) == 100.0


def test_clients_that_began_together_do_not_renew_together() -> None:
    low, high = TokenState(uniform=min), TokenState(uniform=max)
    for each in (low, high):
        each.accept(tokens("one"), issued=0.0, lifetime=100.0)

    assert [low.phase(69.9), low.phase(70.1)] == [Phase.FRESH, Phase.STALE]
    assert [high.phase(79.9), high.phase(80.1)] == [Phase.FRESH, Phase.STALE]


def test_after_failures_the_pauses_grow_up_to_a_bound_and_a_success_ends_them(state: TokenState) -> None:
    pauses = []
    for _ in range(12):
        state.fail(ValueError(), 0.0)
        pauses.append(state.pause(0.0))

    assert pauses == sorted(pauses)
    assert pauses[0] < 0.1 < pauses[-1] <= LONGEST_PAUSE
    state.accept(tokens("one"), issued=0.0, lifetime=HOUR)
    assert state.pause(0.0) == 0.0


def test_an_invalidated_token_is_used_no_more_and_its_session_is_kept(state: TokenState) -> None:
    state.accept(tokens("one", refresh="r1"), issued=0.0, lifetime=HOUR)

    assert state.invalidate("one", 1.0)

    assert state.phase(1.0) is Phase.EXPIRED
    assert state.tokens is not None
    assert state.tokens.refresh_token == "r1"


def test_only_the_current_token_is_invalidated(state: TokenState) -> None:
    state.accept(tokens("two"), issued=0.0, lifetime=HOUR)

    assert state.invalidate("one", 1.0)

    assert state.phase(1.0) is Phase.FRESH


def test_few_tokens_are_invalidated_at_once_and_another_one_only_after_the_interval(
    state: TokenState,
) -> None:
    for number in range(INVALIDATIONS):
        state.accept(tokens(f"token-{number}"), issued=10.0, lifetime=HOUR)
        assert state.invalidate(f"token-{number}", 10.0)
    state.accept(tokens("last"), issued=10.0, lifetime=HOUR)

    assert not state.invalidate("last", 9.9 + INVALIDATION_INTERVAL)
    assert state.phase(9.9 + INVALIDATION_INTERVAL) is Phase.FRESH
    assert state.invalidate("last", 10.0 + INVALIDATION_INTERVAL)
    assert state.phase(10.0 + INVALIDATION_INTERVAL) is Phase.EXPIRED


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.floats(0.0, 2000.0)),
        st.tuples(st.just("accept"), st.floats(-1.0, 2000.0)),
        st.tuples(st.just("fail"), st.just(0.0)),
        st.tuples(st.just("invalidate"), st.just(0.0)),
        st.tuples(st.just("forget"), st.just(0.0)),
    ),
    max_size=50,
)


@given(STEPS)
def test_whatever_happens_no_token_is_used_after_its_end_or_its_invalidation(
    steps: list[tuple[str, float]],
) -> None:
    state, now, end, name, refused = TokenState(), 0.0, 0.0, "", [-INVALIDATION_INTERVAL] * INVALIDATIONS
    for number, (step, value) in enumerate(steps):
        match step:
            case "pass":
                now += value
            case "accept":
                name, end = f"token-{number}", now + value
                state.accept(tokens(name), issued=now, lifetime=value)
            case "fail":
                state.fail(ValueError(), now)
                assert 0.0 <= state.pause(now) <= LONGEST_PAUSE
            case "invalidate" if state.phase(now) is not Phase.EXPIRED:
                due = now >= refused[-INVALIDATIONS] + INVALIDATION_INTERVAL
                assert state.invalidate(name, now) is due
                if due:
                    refused.append(now)
                    end = now
            case "forget":
                state.forget()
                end = now
                assert state.tokens is None
            case _:
                pass
        assert (state.phase(now) is not Phase.EXPIRED) == (now < end)
        assert state.remaining(now) == max(end - now, 0.0) or state.phase(now) is Phase.EXPIRED
