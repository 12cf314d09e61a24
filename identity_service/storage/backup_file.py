r"""The format of a backup file: lines of text, each sealed with the master key and bound to its place.

The first line holds the format and the id: `{"identity_backup":1,"id":"..."}`. Every other line is one JWE
(RFC 7516) whose `kid` is `backup/<id>/<number>`, so that no line can be moved, dropped, repeated or taken
from another backup. Number 0 is the manifest, the items follow in parts, the last line holds their counts.
"""

import json
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Final, Protocol, Self

from identity_service.domain.copying import CopiedItem, Manifest
from identity_service.domain.errors import ConfigurationError
from identity_service.storage.codec import dumps, moment, seconds
from identity_service.storage.copy_codec import decode_items, encode_item, encode_items
from identity_service.storage.new_file import new_file, require_absent

FORMAT: Final = 1
_PART_ITEMS: Final = 1000
"""The number of items in one line."""
_PART_BYTES: Final = 1_000_000
"""The number of bytes of items in one line, before sealing; a larger item has a line for itself."""
_MAX_LINE: Final = 4_000_000
"""The longest line in bytes. A longer one is refused before all of it is read."""
_FIRST: Final = re.compile(rb'\{"identity_backup":([0-9]{1,9})(?:,"id":"([0-9a-f]{32})"\}\n)?')


class TextSealer(Protocol):
    """A sealer of texts, which holds the master key."""

    def seal(self, text: str, name: str, /) -> str:
        """Return a sealed text without line breaks that `open_text` opens only under the same name."""

    def open_text(self, sealed: str, name: str, /) -> str | None:
        """Return the text, or None if it cannot be opened.

        The text cannot be opened if it was sealed with another master key or under another name, or is
        damaged.
        """


class NewBackup:
    """A backup file to be written, with mode 0600, complete or not at all. Implements BackupWriter."""

    def __init__(self, path: Path, sealer: TextSealer) -> None:
        self._path = path
        self._sealer = sealer

    def require_free(self) -> None:
        """Raise AlreadyExistsError if the path is taken."""
        require_absent(self._path)

    def write(self, manifest: Manifest, items: Iterable[CopiedItem]) -> Mapping[str, int]:
        """Write the file; returns the number of items by their type.

        Raises AlreadyExistsError if the path is taken; ConfigurationError if the file cannot be written.
        """
        id_ = secrets.token_hex(16)
        counts: Counter[str] = Counter()
        with new_file(self._path) as write:
            write(f'{{"identity_backup":{FORMAT},"id":"{id_}"}}\n'.encode())
            for number, text in enumerate(_texts(manifest, items, counts)):
                write(self._sealed(text, _name(id_, number)))
        return dict(counts)

    def _sealed(self, text: str, name: str) -> bytes:
        """Return a line. Raises ConfigurationError if the line is longer than 4,000,000 bytes."""
        line = self._sealer.seal(text, name).encode() + b"\n"
        if len(line) > _MAX_LINE:
            raise ConfigurationError(
                f"a record is too large for a backup: {len(line):,} bytes when sealed, {_MAX_LINE:,} are "
                f"possible. It begins with {text[:120]!r}"
            )
        return line


def _texts(manifest: Manifest, items: Iterable[CopiedItem], counts: Counter[str]) -> Iterator[str]:
    """Yield the manifest, the items in parts of at most 1,000 and about 1 MB, and the counts of the items.

    The items are added to `counts`.
    """
    yield dumps(asdict(manifest) | {"time": seconds(manifest.time)})
    part: list[str] = []
    size = 0
    for item in items:
        text = encode_item(item)
        length = len(text.encode())
        if part and (len(part) == _PART_ITEMS or size + length > _PART_BYTES):
            yield encode_items(part)
            part, size = [], 0
        part.append(text)
        size += length
        counts[type(item).__name__] += 1
    if part:
        yield encode_items(part)
    yield dumps({"end": counts})


class OpenBackup:
    """An open backup file; implements the port BackupReader."""

    def __init__(self, path: Path, file: IO[bytes], sealer: TextSealer) -> None:
        """Read the first line and the manifest.

        Raises ConfigurationError if it is not a backup, of another format, or sealed with another key.
        """
        self._path = path
        self._file = file
        self._sealer = sealer
        self._id = self._read_first()
        self.manifest = self._read_manifest()

    @classmethod
    @contextmanager
    def open(cls, path: Path, sealer: TextSealer) -> Iterator[Self]:
        """Open a backup for the block. Raises ConfigurationError as the constructor does."""
        with _reading(path):
            file = path.open("rb")
        with file:
            if not file.seekable():
                raise ConfigurationError(
                    f"{path} is not a regular file, and a backup is read twice: copy it to one"
                )
            yield cls(path, file, sealer)

    def items(self) -> Iterator[CopiedItem]:
        """Yield the items in the order in which they were written.

        Raises ConfigurationError if a line is damaged or missing, or if the file was replaced while it was
        read.
        """
        if self._read_first() != self._id or self._read_manifest() != self.manifest:
            raise ConfigurationError(f"{self._path} was replaced while it was read")
        counts: Counter[str] = Counter()
        number = 1
        while not (text := self._read_sealed(number)).startswith('{"end":'):
            with self._decoding(number):
                part = decode_items(text)
            for item in part:
                counts[type(item).__name__] += 1
                yield item
            number += 1
        if json.loads(text)["end"] != counts:
            raise self._damaged(number, "counts other items than the file contains")
        if self._read_line():
            raise ConfigurationError(
                f"{self._path} continues after the end of the backup: it was changed; use another copy"
            )

    def _read_first(self) -> str:
        with _reading(self._path):
            self._file.seek(0)
        found = _FIRST.match(self._read_line())
        if found is None:
            raise ConfigurationError(f"{self._path} is not a backup of this service")
        if int(found[1]) != FORMAT:
            raise ConfigurationError(
                f"the backup {self._path} has format {int(found[1])}, this version reads {FORMAT}: restore "
                "it with the version that made it, or with a newer one"
            )
        if found[2] is None:
            raise ConfigurationError(f"the backup {self._path} is damaged in its first line")
        return found[2].decode()

    def _read_manifest(self) -> Manifest:
        line = self._read_whole_line(0)
        text = self._sealer.open_text(line, _name(self._id, 0))
        if text is None:
            raise ConfigurationError(
                f"the master key does not open the backup {self._path}: set master_key_file to the master "
                "key with which the backup was made, or, if it is the same, use another copy of the file"
            )
        with self._decoding(0):
            return _manifest_of(text)

    def _read_sealed(self, number: int) -> str:
        text = self._sealer.open_text(self._read_whole_line(number), _name(self._id, number))
        if text is None:
            raise self._damaged(number, "was changed, or belongs to another line")
        return text

    def _read_whole_line(self, number: int) -> str:
        line = self._read_line()
        if not line.endswith(b"\n"):
            raise ConfigurationError(
                f"the backup {self._path} is cut off in line {number + 2}: it was not copied completely"
            )
        try:
            return line[:-1].decode("ascii")
        except UnicodeDecodeError as error:
            raise self._damaged(number, "was changed") from error

    def _read_line(self) -> bytes:
        with _reading(self._path):
            line = self._file.readline(_MAX_LINE + 1)
        if len(line) > _MAX_LINE:
            raise ConfigurationError(
                f"{self._path} has a line of more than {_MAX_LINE:,} bytes, so it is not a backup"
            )
        return line

    @contextmanager
    def _decoding(self, number: int) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise self._damaged(number, "contains data that this version does not know") from error

    def _damaged(self, number: int, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"line {number + 2} of the backup {self._path} {what}; use another copy of the file"
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"cannot read the backup {path}: {error.strerror}") from error


def _name(id_: str, number: int) -> str:
    return f"backup/{id_}/{number}"


def _manifest_of(text: str) -> Manifest:
    data = json.loads(text)
    return Manifest(
        time=moment(data["time"]), revision=data["revision"], issuer=data["issuer"], version=data["version"]
    )
