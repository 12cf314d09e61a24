"""The garbage collector interrupts neither imports nor calls, however many calls run at once."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from identity_service.process.garbage import collect_seldom, imported, skip_lasting_objects

_MODULE = "module_of_test_garbage"


@pytest.fixture
def spared() -> Iterator[None]:
    """Configure the collector as a service inside Envoy does; restore it after the test."""
    before = gc.get_threshold()
    skip_lasting_objects()
    collect_seldom()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("spared")
def test_thousands_of_calls_that_begin_at_once_bring_no_collection_of_all_objects() -> None:
    """A stranger can open 4,500 calls at once, each of which makes some 30 objects."""
    before = gc.get_stats()[2]["collections"]
    calls = [[[number] for number in range(30)] for _ in range(4_500)]
    assert gc.get_stats()[2]["collections"] == before
    assert len(calls) == 4_500


@pytest.mark.usefixtures("spared")
def test_calls_that_leave_no_cycles_bring_no_collection() -> None:
    before = gc.get_stats()[0]["collections"]
    for _ in range(1_000):
        calls = [[[number] for number in range(30)] for _ in range(64)]
        assert len(calls) == 64
    assert gc.get_stats()[0]["collections"] == before


@pytest.mark.usefixtures("spared")
def test_the_objects_of_the_service_are_not_traversed() -> None:
    assert len(gc.get_objects()) < gc.get_freeze_count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the name of a new module; its `collecting` says whether the collector was on at its import."""
    (tmp_path / f"{_MODULE}.py").write_text("import gc\ncollecting = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield _MODULE
    sys.modules.pop(_MODULE, None)
    gc.unfreeze()


def test_a_module_is_imported_without_collections_which_go_on_afterwards(module: str) -> None:
    assert not imported(module).collecting
    assert gc.isenabled()


def test_an_import_that_fails_leaves_the_collector_on() -> None:
    with pytest.raises(ModuleNotFoundError):
        imported("there_is_no_such_module")
    gc.unfreeze()
    assert gc.isenabled()


def test_the_collector_skips_no_further_objects_for_a_module_that_was_imported_before(module: str) -> None:
    first = imported(module)
    skipped = gc.get_freeze_count()
    assert imported(module) is first
    assert gc.get_freeze_count() <= skipped
