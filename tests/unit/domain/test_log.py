"""Revisions and generations: their text form, and how they are compared."""

import string
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.ids import NO_LINK, Epoch, Link, new_epoch, new_link
from identity_service.domain.log import NEVER_RAISED, Generation, Head, Marks, Revision
from tests.unit.domain.samples import START

EPOCHS = st.text("0123456789abcdefABCXYZ", min_size=1, max_size=64).map(Epoch)
POSITIONS = st.integers(0, 2**63 - 1)
LINKS = st.text(st.characters(codec="ascii"), min_size=1, max_size=64).map(Link)
PLACES = st.builds(
    Revision,
    epoch=EPOCHS,
    position=st.integers(1, 2**63 - 1),
    link=st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=64)
    .filter(lambda text: text != "-")
    .map(Link),
)


@given(PLACES)
def test_a_revision_is_read_back_as_it_was_written(revision: Revision) -> None:
    assert Revision.parse(str(revision)) == revision


@given(EPOCHS, POSITIONS)
def test_a_revision_of_an_older_client_is_read_back_without_a_link(epoch: Epoch, position: int) -> None:
    revision = Revision(epoch=epoch, position=position, link=None)
    assert str(revision) == f"{epoch}.{position}"
    assert Revision.parse(str(revision)) == revision


def test_a_revision_of_a_new_log_can_be_written_and_read() -> None:
    revision = Revision(epoch=new_epoch(), position=0, link=NO_LINK)
    assert str(revision) == f"{revision.epoch}.0.-"
    assert Revision.parse(str(revision)) == revision


def test_the_longest_revision_can_be_written_and_read() -> None:
    revision = Revision(epoch=Epoch("e" * 64), position=2**63 - 1, link=Link("l" * 64))
    assert Revision.parse(str(revision)) == revision


def test_a_revision_with_a_new_link_can_be_written_and_read() -> None:
    """The test makes many links, since one in 64 begins with a hyphen."""
    for position in range(1, 1000):
        revision = Revision(epoch=new_epoch(), position=position, link=new_link())
        assert Revision.parse(str(revision)) == revision


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "e",
        "e.",
        ".1",
        "e.-1",
        "e.+1",
        "e. 1",
        "e.1 ",
        "e.1\n",
        "e.1.",
        "e.1.-",
        "e.1.l.",
        "e.1.l.m",
        "e.1..l",
        "e.1.l ",
        "e.1.l\n",
        "e.1.l+m",
        "e.1.é",
        "e.1.٣",
        "e.0.",
        "e.0.l",
        "e.0.--",
        "e.01.l",
        ".1.l",
        "e..l",
        "e.-.-",
        "e.1." + "l" * 65,
        "e.1." + "l" * 5000,
        "e.x",
        "e.1e3",
        "e.0x1",
        "e.1_0",
        "e.01",
        "e.00",
        "e.٣",
        "e.²",
        "é.1",
        "e-f.1",
        "e f.1",
        "e" * 65 + ".1",
        f"e.{2**63}",
        "e." + "9" * 5000,
    ],
)
def test_another_text_is_no_revision(text: str) -> None:
    """Each revision has one spelling, and no position is larger than a store can count."""
    with pytest.raises(ValueError, match="not a revision"):
        Revision.parse(text)


@given(st.text() | st.text("e.0123456789-+_l ٣\n"))
def test_no_text_makes_parsing_a_revision_fail_in_another_way(text: str) -> None:
    try:
        parsed = Revision.parse(text)
    except ValueError:
        return
    assert str(parsed) == text


@given(st.integers(1, 2**63 - 1), LINKS)
def test_a_generation_is_read_back_as_it_was_written(number: int, link: Link) -> None:
    generation = Generation(number=number, link=link)
    assert Generation.parse(str(generation)) == generation


def test_a_generation_with_a_new_link_can_be_written_and_read() -> None:
    generation = Generation(number=1, link=new_link())
    assert Generation.parse(str(generation)) == generation


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "1",
        "1.",
        ".l",
        "0.l",
        "-1.l",
        "+1.l",
        " 1.l",
        "01.l",
        "x.l",
        "٣.l",
        f"{2**63}.l",
        "1." + "l" * 65,
    ],
)
def test_another_text_is_no_generation(text: str) -> None:
    with pytest.raises(ValueError, match="not a generation"):
        Generation.parse(text)


@given(st.text() | st.text(".0123456789-+ ٣l\n"))
def test_no_text_makes_parsing_a_generation_fail_in_another_way(text: str) -> None:
    try:
        parsed = Generation.parse(text)
    except ValueError:
        return
    assert str(parsed) == text
    assert parsed.number >= 1 or parsed == NEVER_RAISED


def test_an_entry_for_a_principal_that_was_never_raised_counts_as_number_0() -> None:
    assert Generation.parse("0") == NEVER_RAISED
    assert str(NEVER_RAISED) == "0"
    assert Generation(number=1, link=Link("a")).is_raised_over(NEVER_RAISED)


GENERATIONS = st.builds(Generation, number=st.integers(1, 3), link=st.sampled_from("pqr").map(Link))


@given(GENERATIONS, GENERATIONS, GENERATIONS)
def test_merging_generations_needs_no_order_and_no_count(a: Generation, b: Generation, c: Generation) -> None:
    assert a.merged(b) == b.merged(a)
    assert a.merged(b).merged(c) == a.merged(b.merged(c))
    assert a.merged(b).merged(b) == a.merged(b)


@given(GENERATIONS, GENERATIONS)
def test_a_merged_generation_is_above_all_that_either_one_was_above(a: Generation, b: Generation) -> None:
    """After the merge, a token that either generation has revoked stays revoked."""
    for held in (None, a, b, Generation(number=1, link=Link("z"))):
        if a.is_raised_over(held) or b.is_raised_over(held):
            assert a.merged(b).is_raised_over(held)


def test_the_end_of_a_log_names_its_revision() -> None:
    head = Head(epoch=Epoch("e"), position=5, link=Link("l"), time=START)
    assert str(head.revision) == "e.5.l"


def test_a_head_that_says_nothing_else_is_of_a_log_that_has_lost_nothing() -> None:
    head = Head(epoch=Epoch("e"), position=0, link=NO_LINK, time=START)

    assert (head.floor, head.retention, head.marks) == (0, timedelta(0), Marks())
    assert head.whole
    assert head.complete


def test_marks_that_were_never_set_are_zero() -> None:
    marks = Marks()

    assert (marks.lifetime, marks.session, marks.leeway) == (timedelta(0),) * 3
    assert (marks.time, marks.latest) == (None, None)


def test_merging_marks_keeps_the_longer_of_each_duration_and_the_later_of_each_time() -> None:
    short, long = timedelta(seconds=1), timedelta(seconds=2)
    one = Marks(lifetime=short, session=long, leeway=short, time=START)
    other = Marks(lifetime=long, session=short, leeway=long, time=START + long, latest=START)
    both = Marks(lifetime=long, session=long, leeway=long, time=START + long, latest=START)

    assert one.merged(other) == other.merged(one) == both
