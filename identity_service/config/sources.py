"""Reads settings from their sources: defaults < identity.toml < IDENTITY_* environment variables < flags.

The module records the source of each value, which pydantic-settings cannot do. An unknown key is an error
that names the nearest known key, so that a misspelt setting is never ignored silently.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError

from identity_service.config.validation_messages import reword
from identity_service.domain.errors import ConfigurationError
from identity_service.domain.visible import escape
from identity_service.settings import Settings

PREFIX: Final = "IDENTITY_"
CLIENT_VARIABLES: Final = frozenset(
    f"{PREFIX}{name}"
    for name in (
        "CONFIG",
        "TARGET",
        "CLIENT_ID",
        "CLIENT_SECRET",
        "CLIENT_SECRET_FILE",
        "TLS",
        "CA",
        "CERT",
        "KEY",
        "ALLOW_PLAINTEXT",
        "USERNAME",
        "PASSWORD",
        "TOKEN",
        "AUDIENCE",
        "HTTP_PROXY",
    )
)
"""Environment variables of the command line and the examples, which are not settings of the server."""

_SERVICE_LINKS: Final = re.compile(r"IDENTITY_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")
"""Variables that Kubernetes sets in every pod for a Service named `identity` or `identity-service`."""
_OF_AZURE: Final = frozenset(
    f"{PREFIX}{name}" for name in ("ENDPOINT", "HEADER", "SERVER_THUMBPRINT", "API_VERSION")
)
"""Variables that Azure sets for a managed identity: the first two (the second is a secret) in App Service,
Functions and Container Apps, all of them in Container Instances and Service Fabric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """The settings, and the source of each value."""

    settings: Settings
    sources: Mapping[str, str]
    """A map from the name of a setting to its source: `default`, the path of the file, the environment
    variable, or the flag."""


def load_settings(
    overrides: Mapping[str, object] = MappingProxyType({}),
    *,
    config_file: Path | None = None,
    environ: Mapping[str, str],
    defaults: Mapping[str, object] = MappingProxyType({}),
) -> LoadedSettings:
    """Read the settings from all sources, and check them.

    Args:
        overrides: flags of the command line; None = not given.
        config_file: a file that must exist; None = the file that IDENTITY_CONFIG names, or ./identity.toml if
            it exists.
        environ: the environment variables.
        defaults: values in place of the defaults of these settings.

    Raises ConfigurationError for an unknown key, an invalid value, or a file that cannot be read.
    """
    values = dict(defaults)
    sources = dict.fromkeys(Settings.model_fields, "default")
    path = config_file or (Path(environ["IDENTITY_CONFIG"]) if "IDENTITY_CONFIG" in environ else None)
    variables = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX)
        and name not in CLIENT_VARIABLES | _OF_AZURE
        and not _SERVICE_LINKS.fullmatch(name)
    }
    flags = {name: value for name, value in overrides.items() if value is not None}
    for found, source in (
        (_read_file(path), str(path or "identity.toml")),
        (variables, "environment"),
        (flags, "flag"),
    ):
        _check_known(found, source)
        values |= found
        sources |= {name: _source(source, name) for name in found}
    try:
        return LoadedSettings(settings=Settings(**values), sources=sources)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, sources)) from None


def _read_file(path: Path | None) -> dict[str, object]:
    try:
        with (path or Path("identity.toml")).open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        if path is None:
            return {}
        raise ConfigurationError(f"{path}: there is no such file") from None
    except UnicodeDecodeError:
        # `from None`: the library's error holds the content, which may include the master key.
        raise ConfigurationError(f"{path or 'identity.toml'}: must be UTF-8 text") from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path or 'identity.toml'}: cannot be read: {error}") from error
    except (ValueError, RecursionError):
        raise ConfigurationError(
            f"{path or 'identity.toml'}: cannot be read: has too long a number, or is nested too deeply"
        ) from None


def _check_known(found: Iterable[str], source: str) -> None:
    for name in found:
        if name not in Settings.model_fields:
            shown = f"{PREFIX}{name.upper()}" if source == "environment" else name
            nearest = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.5)
            hint = f"; did you mean {nearest[0]}?" if nearest else "; see `identity config show`"
            raise ConfigurationError(f"{escape(shown)}: is not a setting{hint}")


def _source(source: str, name: str) -> str:
    if source == "environment":
        return f"{PREFIX}{name.upper()}"
    return f"flag --{name.replace('_', '-')}" if source == "flag" else source


def _explain(error: ValidationError, sources: Mapping[str, str]) -> str:
    """Return one line for each invalid setting; it does not contain the value, which may be a secret."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        message = reword(problem)
        name, *within = [str(part) for part in problem["loc"]] or [""]
        source = f" (from {sources[name]})" if name in sources else ""
        # In a list of texts, only the list is named; in a list of mappings, the entry and its member as well.
        place = (
            f"{name}[{within[0]}]{''.join(f'.{part}' for part in within[1:])}" if len(within) > 1 else name
        )
        if name:
            lines.append(f"{place}: {message}{source}")
        else:
            lines += [_with_source(line, sources) for line in message.split("\n")]
    return "\n".join(lines)


def _with_source(line: str, sources: Mapping[str, str]) -> str:
    """Append the source of the setting with which the line begins, unless it has its default."""
    source = sources.get(line.partition(":")[0], "default")
    return line if source == "default" else f"{line} (from {source})"
