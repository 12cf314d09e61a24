"""A backup is read back as it was written; any change of the file is refused with a reason."""

import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity_service.domain.copying import CopiedItem, CopiedRecord, Manifest
from identity_service.domain.errors import AlreadyExistsError, ConfigurationError, StoreReplacedError
from identity_service.domain.ids import TokenId
from identity_service.domain.log import TokenDenied
from identity_service.domain.secret import Secret
from identity_service.jose.sealing import Sealer
from identity_service.storage.backup_file import NewBackup, OpenBackup
from tests.conformance.samples import TIME, a_client
from tests.unit.storage.strategies import ITEMS

MANIFEST = Manifest(
    time=datetime(2030, 1, 1, 12, 30, 15, 250_000, tzinfo=UTC),
    revision="e0.17.abc",
    issuer="https://id.example",
    version="0.2.0",
)
SEALER = Sealer(Secret("the master key of these tests, long enough"))
OTHER = Sealer(Secret("another master key, which is long enough too"))
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
fresh = itertools.count()


def denials(count: int) -> list[CopiedItem]:
    return [TokenDenied(token_id=TokenId(f"token-{number}"), deny_until=TIME) for number in range(count)]


def written(folder: Path, items: list[CopiedItem], *, sealer: Sealer = SEALER) -> Path:
    path = folder / f"{next(fresh)}.backup"
    NewBackup(path, sealer).write(MANIFEST, items)
    return path


def read(path: Path, *, sealer: Sealer = SEALER) -> list[CopiedItem]:
    with OpenBackup.open(path, sealer) as backup:
        assert backup.manifest == MANIFEST
        return list(backup.items())


def refusal(path: Path, *, sealer: Sealer = SEALER) -> str:
    """Return the reason why the file is refused; the error must name the file."""
    with pytest.raises(ConfigurationError) as caught:
        read(path, sealer=sealer)
    assert str(path) in str(caught.value)
    return str(caught.value)


@quick
@given(st.lists(ITEMS, max_size=30))
def test_any_items_are_read_back_and_may_be_read_twice(tmp_path: Path, items: list[CopiedItem]) -> None:
    path = written(tmp_path, items)
    with OpenBackup.open(path, SEALER) as backup:
        assert list(backup.items()) == items
        assert list(backup.items()) == items


def test_many_items_come_in_several_lines_and_nothing_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "it.backup"
    counts = NewBackup(path, SEALER).write(MANIFEST, denials(2500))

    assert counts == {"TokenDenied": 2500}
    assert read(path) == denials(2500)
    assert len(lines_of(path)) == 1 + 1 + 3 + 1
    assert b"token-1" not in path.read_bytes()
    assert b"id.example" not in path.read_bytes()


def test_a_part_is_bounded_by_its_size_too(tmp_path: Path) -> None:
    large = [CopiedRecord(record=a_client(f"c{n}", display_name="\N{SNOWMAN}" * 200_000)) for n in range(4)]
    path = written(tmp_path, list(large))

    assert read(path) == large
    assert max(map(len, lines_of(path))) < 2_000_000


def test_a_record_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "it.backup"
    with pytest.raises(ConfigurationError, match="too large"):
        NewBackup(path, SEALER).write(MANIFEST, [CopiedRecord(record=a_client(display_name="x" * 4_000_000))])
    assert list(tmp_path.iterdir()) == []


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = written(tmp_path, denials(1))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_another_master_key_is_named_as_the_reason(tmp_path: Path) -> None:
    assert "with which the backup was made" in refusal(written(tmp_path, denials(1)), sealer=OTHER)


def test_the_other_master_key_opens_it_while_one_is_changed_for_the_other(tmp_path: Path) -> None:
    both = Sealer(
        Secret("a third master key, which is long enough"),
        Secret("the master key of these tests, long enough"),
    )
    assert read(written(tmp_path, denials(1)), sealer=both) == denials(1)


def test_a_newer_format_is_refused_by_its_number(tmp_path: Path) -> None:
    path = written(tmp_path, denials(1))
    path.write_bytes(path.read_bytes().replace(b'{"identity_backup":1,', b'{"identity_backup":2,', 1))
    assert "has format 2" in refusal(path)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{}\n", b"SQLite format 3\x00", b'{"identity_backup":"1"}\n']
)
def test_another_file_is_no_backup(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert "is not a backup" in refusal(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none")
    assert "directory" in refusal(tmp_path)


def test_a_line_without_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "endless"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse: a terabyte of zeros
    assert "more than 4,000,000 bytes" in refusal(path)


@quick
@given(st.data())
def test_a_file_that_is_cut_off_at_any_byte_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = written(tmp_path, denials(1500))
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refusal(path)


@pytest.mark.parametrize("missing", [1, 2, 300])
def test_a_file_without_its_last_bytes_is_called_cut_off(tmp_path: Path, missing: int) -> None:
    path = written(tmp_path, denials(1500))
    path.write_bytes(path.read_bytes()[:-missing])
    assert "cut off" in refusal(path)


@quick
@given(st.data())
def test_a_bit_that_was_flipped_anywhere_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = written(tmp_path, denials(3))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(content))
    refusal(path)


def test_every_bit_of_the_ends_of_lines_counts(tmp_path: Path) -> None:
    """The last character of base64url has unused bits, which a lenient reader would ignore."""
    path = written(tmp_path, denials(3))
    whole = path.read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for place in (place for end in ends for place in range(end - 2, end + 1)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            path.write_bytes(bytes(changed))
            refusal(path)


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def spoiled(lines: list[bytes], others: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Yield each way to drop, repeat, swap or replace one line, or to append one."""
    for place, line in enumerate(lines):
        yield f"without line {place}", lines[:place] + lines[place + 1 :]
        yield f"line {place} twice", [*lines[:place], line, *lines[place:]]
        yield f"line {place} once more at the end", [*lines, line]
        yield f"line {place} of another backup", [*lines[:place], others[place], *lines[place + 1 :]]
        yield f"line {place} is empty", [*lines[:place], b"\n", *lines[place + 1 :]]
        yield f"up to line {place}", lines[:place]
        yield f"the other one from line {place} on", lines[: place + 1] + others[place + 1 :]
    for one, other in itertools.combinations(range(len(lines)), 2):
        swapped = list(lines)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        yield f"lines {one} and {other} swapped", swapped
    yield "something behind", [*lines, b"\n"]


def test_lines_cannot_be_dropped_repeated_swapped_mixed_or_added(tmp_path: Path) -> None:
    path, other = written(tmp_path, denials(2500)), written(tmp_path, denials(2500))
    lines, others = lines_of(path), lines_of(other)
    for what, changed in spoiled(lines, others):
        if changed in (lines, others):
            continue
        path.write_bytes(b"".join(changed))
        with pytest.raises(ConfigurationError):
            pytest.fail(f"{what}: read {len(read(path))} items")
    path.write_bytes(b"".join(lines))
    assert read(path) == denials(2500)


def test_a_file_that_is_replaced_between_two_readings_is_noticed(tmp_path: Path) -> None:
    path, other = written(tmp_path, denials(3)), written(tmp_path, denials(3))
    with OpenBackup.open(path, SEALER) as backup:
        assert list(backup.items())
        path.write_bytes(other.read_bytes())
        with pytest.raises(ConfigurationError, match="was replaced"):
            list(backup.items())


def test_another_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "it.backup"
    path.write_text("precious")
    with pytest.raises(AlreadyExistsError, match="name another file"):
        NewBackup(path, SEALER).write(MANIFEST, denials(1))
    with pytest.raises(AlreadyExistsError):
        NewBackup(path, SEALER).require_free()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["precious"]


def test_one_that_appears_meanwhile_is_not_overwritten_either(tmp_path: Path) -> None:
    path = tmp_path / "it.backup"

    def items() -> Iterator[CopiedItem]:
        path.write_text("precious")
        yield from denials(1)

    with pytest.raises(AlreadyExistsError):
        NewBackup(path, SEALER).write(MANIFEST, items())
    assert [file.read_text() for file in tmp_path.iterdir()] == ["precious"]


def test_nothing_is_left_of_one_that_failed(tmp_path: Path) -> None:
    def items() -> Iterator[CopiedItem]:
        yield from denials(1500)
        raise StoreReplacedError("the log got another epoch")

    with pytest.raises(StoreReplacedError):
        NewBackup(tmp_path / "it.backup", SEALER).write(MANIFEST, items())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_take_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot write .*No such file"):
        NewBackup(tmp_path / "none" / "it.backup", SEALER).write(MANIFEST, denials(1))


def test_it_is_written_on_a_file_system_without_hard_links_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = written(tmp_path, denials(2))
    assert read(path) == denials(2)
    with pytest.raises(AlreadyExistsError):
        NewBackup(path, SEALER).write(MANIFEST, denials(1))
    assert list(tmp_path.iterdir()) == [path]


def test_a_manifest_that_differs_is_another_backup(tmp_path: Path) -> None:
    path = tmp_path / "it.backup"
    NewBackup(path, SEALER).write(replace(MANIFEST, issuer="https://other.example"), [])
    with OpenBackup.open(path, SEALER) as backup:
        assert backup.manifest.issuer == "https://other.example"
