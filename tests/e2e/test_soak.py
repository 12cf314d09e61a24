"""A short run of the soak test: every answer is checked while tokens are revoked and keys rotate."""

import pytest

from benchmarks import soak
from benchmarks.plots import soak as soak_plot
from benchmarks.soak_verdict import Sample, judge

FULL = 1_000_000


@pytest.mark.slow
def test_a_few_thousand_calls_of_every_kind_are_answered_as_they_have_to_be() -> None:
    found = soak.run(10_000, 500)

    assert found["wrong"] == {}
    assert found["calls"] == 10_000 == sum(found["kinds"].values())
    assert min(found["kinds"].values()) > 0
    assert found["kinds"].keys() == {"seen", "new", "issue", "refresh", "bad", "revoked", "revoke", "batch"}
    assert found["rotations"] > 0
    assert found["watchers_notified"] > 0
    assert found["good"]


def samples(growth: float, *, jumps: int = 0, leaks: int = 0) -> list[Sample]:
    """Return samples of a run. Memory grows by `growth` MB per million calls.

    `jumps` of nine samples have 50 MB more, and the last samples have `leaks` more open descriptors.
    """
    return [
        Sample(
            calls=number * FULL // 100,
            seconds=number,
            rss_bytes=100_000_000 + int(growth * number * 10_000) + (50_000_000 if number % 9 < jumps else 0),
            descriptors=70 + (leaks if number > 90 else 0),
            threads=60,
        )
        for number in range(101)
    ]


@pytest.mark.parametrize("jumps", [0, 2])
@pytest.mark.parametrize(("growth", "flat"), [(0, True), (4, True), (8, False), (-3, True)])
def test_memory_is_flat_by_its_slope_despite_single_samples(growth: float, jumps: int, *, flat: bool) -> None:
    verdict = judge(samples(growth, jumps=jumps))

    assert verdict.memory_flat is flat
    assert verdict.growth == pytest.approx(growth, abs=0.5)


def test_growth_while_caches_fill_does_not_count() -> None:
    filling = [
        Sample(calls=n, seconds=0, rss_bytes=n, descriptors=n, threads=n) for n in range(0, 300_000, 9)
    ]
    full = [
        Sample(calls=n, seconds=0, rss_bytes=300_000, descriptors=300_000, threads=300_000)
        for n in range(300_000, 900_001, 9_000)
    ]

    assert judge([*filling[::1000], *full]).good


def test_a_descriptor_more_at_the_end_is_not_constant() -> None:
    verdict = judge(samples(0, leaks=1))

    assert (verdict.descriptors_constant, verdict.threads_constant) == (False, True)
    assert not verdict.good


def test_few_calls_give_no_verdict_about_memory() -> None:
    verdict = judge(samples(1000)[:10])

    assert (verdict.growth, verdict.memory_flat, verdict.good) == (None, None, True)


def test_the_plot_has_a_line_for_each_figure() -> None:
    assert soak_plot.draw(samples(4)).count("line one") == 3
