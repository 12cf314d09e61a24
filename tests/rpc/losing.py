"""Writes to the store that fail in a way that leaves the caller uncertain whether they took effect."""

from collections.abc import Iterable
from typing import Any, Final

import pytest

from identity_service.domain.errors import NotConfirmedError, StoreUnavailableError

WAYS: Final = ("never arrived", "reply lost", "not confirmed")


def lose(monkeypatch: pytest.MonkeyPatch, part: object, names: Iterable[str], way: str) -> None:
    """Make the named methods of a part of the store fail in one of the `WAYS`."""
    for name in names:
        real = getattr(part, name)

        def fail(*words: Any, real: Any = real, **more: Any) -> None:
            if way != "never arrived":
                real(*words, **more)
            if way == "not confirmed":
                raise NotConfirmedError("0 of 1 replicas confirmed")
            raise StoreUnavailableError("cannot reach Redis")

        monkeypatch.setattr(part, name, fail)
