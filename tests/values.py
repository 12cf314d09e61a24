"""Finds the value classes of a package, for tests that check how all of them are declared."""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from types import ModuleType


def values_of(package: ModuleType) -> Iterator[type]:
    """Yield the public classes with annotated members, except ports, enums, errors and tuples."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for each in vars(importlib.import_module(found.name)).values():
            if (
                isinstance(each, type)
                and each.__module__ == found.name
                and vars(each).get("__annotations__")
                and not each.__name__.startswith("_")
                and not issubclass(each, Enum | Exception | tuple)
                and not getattr(each, "_is_protocol", False)
            ):
                yield each


def is_value(cls: type) -> bool:
    """Return whether the class is frozen and slotted, and its constructor takes keywords only."""
    return (
        is_dataclass(cls)
        and cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
        and "__slots__" in vars(cls)
        and all(member.kw_only for member in fields(cls))
    )
