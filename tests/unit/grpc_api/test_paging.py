"""Page tokens: a token is valid only for the list that returned it, and no other text is valid."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from identity_service.domain.errors import InvalidRequestError
from identity_service.grpc_api.paging import Page

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)
lists = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def page(of: str = "List", size: int = 1) -> Page:
    return Page.asked(of, size, "")


@given(lists, ids)
def test_a_token_leads_back_to_the_id_that_it_was_made_of(of: str, id_: str) -> None:
    token = page(of).token_after(id_)

    assert Page.asked(of, 1, token).after == id_
    assert len(token) <= 2048


@given(lists, lists, ids)
def test_a_token_of_another_list_is_refused(of: str, other: str, id_: str) -> None:
    assume(of != other)

    with pytest.raises(InvalidRequestError, match="page_token"):
        Page.asked(other, 1, page(of).token_after(id_))


@given(st.one_of(st.text(), st.from_regex(r"[A-Za-z0-9_=-]{1,60}", fullmatch=True)))
def test_no_other_text_is_a_token(text: str) -> None:
    assume(text)

    with pytest.raises(InvalidRequestError, match="page_token"):
        Page.asked("List", 1, text)


@given(ids, st.data())
def test_a_token_that_was_changed_in_one_place_is_refused(id_: str, data: st.DataObject) -> None:
    token = page().token_after(id_)
    place = data.draw(st.integers(0, len(token) - 1))
    put = data.draw(st.sampled_from("ABCabc019-_= .\n"))
    assume(token[place] != put)

    before, rest = token[:place], token[place + 1 :]
    for changed in (before + put + rest, before + rest, before + put + token[place:]):
        with pytest.raises(InvalidRequestError, match="page_token"):
            Page.asked("List", 1, changed)


@pytest.mark.parametrize("ending", ["=", "==", "====", "\n", " ", "\n\n\n\n"])
def test_a_token_has_one_spelling(ending: str) -> None:
    """Python's base64 decoder skips characters outside the alphabet: several texts could mean one token."""
    token = page().token_after("client")

    with pytest.raises(InvalidRequestError, match="page_token"):
        Page.asked("List", 1, token + ending)


@given(st.lists(st.integers(), unique=True, max_size=30), st.integers(1, 10))
def test_pages_put_together_are_the_list(entries: list[int], size: int) -> None:
    ordered = sorted(f"{entry:+040}" for entry in entries)
    found: list[str] = []
    token = ""
    while True:
        asked = Page.asked("List", size, token)
        rest = [entry for entry in ordered if entry > asked.after]
        shown, token = asked.cut(rest[: asked.limit + 1], str)
        found += shown
        if not token:
            break
        assert len(shown) == size

    assert found == ordered


@pytest.mark.parametrize(("size", "limit"), [(0, 100), (1, 1), (1000, 1000)])
def test_a_page_has_the_size_that_was_asked_for_or_the_usual_one(size: int, limit: int) -> None:
    assert page(size=size).limit == limit


@pytest.mark.parametrize("size", [-1, 1001])
def test_a_page_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidRequestError, match="page_size"):
        page(size=size)
