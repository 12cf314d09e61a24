"""Options that several commands share: a function turns them into the value of one parameter.

Connected = Annotated[Service, OptionsOf(connected)]

def watch(*, verbose: Verbose = False, service: Connected, as_json: JsonFlag = False) -> None: ...

The parameters of `connected` then are options of `watch`, in the place of `service`.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class OptionsOf:
    """An annotation of a parameter: its value is the result of a function, whose parameters are options.

    If the result is a context manager, the value is what it yields until the command has ended.
    """

    make: Callable[..., Any]


def with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with the options of its groups in place of the parameters that stand for them."""
    options = [*_options_of(command)]
    if options == [*inspect.signature(command).parameters.values()]:
        return command

    @functools.wraps(command)
    def run(**values: Any) -> None:
        with ExitStack() as open_:
            _call(command, values, open_)

    parameters = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _options_of(function: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    for parameter in inspect.signature(function).parameters.values():
        if (make := _maker(parameter)) is None:
            yield parameter
        else:
            yield from _options_of(make)


def _call(function: Callable[..., Any], values: Mapping[str, Any], open_: ExitStack) -> Any:
    """Call a function with the values of its options and of its groups of options."""
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if (make := _maker(parameter)) is None:
            arguments[name] = values[name]
            continue
        made = _call(make, values, open_)
        arguments[name] = open_.enter_context(made) if isinstance(made, AbstractContextManager) else made
    return function(**arguments)


def _maker(parameter: inspect.Parameter) -> Callable[..., Any] | None:
    marks = getattr(parameter.annotation, "__metadata__", ())
    return next((mark.make for mark in marks if isinstance(mark, OptionsOf)), None)
