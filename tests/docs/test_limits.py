"""docs/limits.md lists every limit, with its default and its metrics."""

import re
from datetime import timedelta
from typing import Final

from identity_service.config.limits import LimitSettings
from identity_service.config.values import mask
from identity_service.settings import Settings
from identity_service.transport.limits import Limits, LimitsConfig
from tests.docs.recipes import DOCS
from tests.fakes.event_logs import RecordingEventLog

_ROW: Final = re.compile(r"^\| `([a-z_]+)` \| ([^|]+) \|.*\| ([^|(]*)(?:\(.*\) )?\|$", re.MULTILINE)
_WORK: Final = "### Work\n"
"""The heading of the section about limits that are not fields of `LimitSettings`."""


def rows(page: str) -> dict[str, tuple[str, str]]:
    """Return for each setting its default and the names of its metrics, without remarks in brackets."""
    return {name: (default, shown.strip()) for name, default, shown in _ROW.findall(page)}


def page() -> str:
    return (DOCS / "limits.md").read_text(encoding="utf-8")


def test_every_limit_stands_there_with_its_default() -> None:
    settings = Settings()
    defaults = {name: mask(name, getattr(settings, name)) or "none" for name in rows(page())}
    of_clients, _, of_work = page().partition(_WORK)

    assert {name: default for name, (default, _) in rows(page()).items()} == defaults
    assert rows(of_clients).keys() == LimitSettings.model_fields.keys()
    assert rows(of_work)


def test_a_limit_stands_there_with_the_metrics_that_it_has() -> None:
    limits = Limits(LimitsConfig(), RecordingEventLog())
    opened = {quota.name for quota in limits.quotas}
    shown = {
        name: ", ".join(["open"] * (name in opened) + ["count"] * (name in limits.refusals))
        for name in LimitSettings.model_fields
    }

    assert {name: text for name, (_, text) in rows(page().partition(_WORK)[0]).items()} == shown


def test_a_limit_has_the_same_name_in_the_metrics_and_in_the_settings() -> None:
    limits = Limits(LimitsConfig(), RecordingEventLog())
    known = set(LimitSettings.model_fields)

    assert {quota.name for quota in limits.quotas} <= known
    assert limits.refusals.keys() <= known


def test_the_engines_and_the_settings_have_the_same_defaults() -> None:
    settings, config = LimitSettings(), LimitsConfig()

    assert (config.calls.total, config.calls.per_peer) == (settings.max_calls, settings.max_calls_per_peer)
    assert (config.receives.total, config.receives.per_peer) == (
        settings.max_receives,
        settings.max_receives_per_peer,
    )
    assert (config.request_timeout, config.send_timeout) == (settings.request_timeout, settings.send_timeout)
    assert tuple(config.exempt) == settings.limits_exempt
    assert tuple(config.proxies) == settings.trusted_proxies
    assert config.request_timeout == timedelta(seconds=10)
