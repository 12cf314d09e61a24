"""Refuses paths that pyvoy never answers, before they reach it.

pyvoy decodes the percent-encoding of a path, and gives up without an answer if the result is not UTF-8. The
stream then stays open for minutes, and Python, which limits what each address holds open, does not know it.
"""

from collections.abc import Mapping
from typing import Any, Final

_FILTER: Final = "identity.paths"
"""The name of the filter, which differs from its type: gRPC-Web adds a filter of the same type."""
_HEX: Final = "[0-9A-Fa-f]"
_NEXT: Final = f"%[89ABab]{_HEX}"
"""A byte after the first of a character."""
_CHARACTER: Final = "|".join(
    (
        "[!-$&-~]",
        f"%[0-7]{_HEX}",
        f"%(?:[Cc][2-9A-Fa-f]|[Dd]{_HEX}){_NEXT}",
        f"%(?:[Ee]0%[ABab]|[Ee][Dd]%[89]){_HEX}{_NEXT}",
        f"%[Ee][1-9A-CEFa-cef](?:{_NEXT}){{2}}",
        f"%(?:[Ff]0%[9ABab]|[Ff]4%8){_HEX}(?:{_NEXT}){{2}}",
        f"%[Ff][1-3](?:{_NEXT}){{3}}",
    )
)
UTF8_PATH: Final = f"(?:{_CHARACTER})*"
"""A regular expression for paths of visible ASCII whose percent-encoding is UTF-8 (RFC 3629 section 4)."""


def only_utf8() -> Mapping[str, Any]:
    """Return the HTTP filter that refuses all other paths with 403, and calls with PERMISSION_DENIED."""
    path = {"url_path": {"path": {"safe_regex": {"regex": UTF8_PATH}}}}
    policy = {"permissions": [{"not_rule": path}], "principals": [{"any": True}]}
    return {
        "name": _FILTER,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": {"paths that are not UTF-8": policy}},
        },
    }


def busy_route(path: str) -> Mapping[str, Any]:
    """Return a route of this one path, whose requests skip the filter of `only_utf8`.

    The filter takes 5 % of a core that answers Verify from its cache. All other requests pass through it,
    also those without any route.
    """
    off = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
    return {
        "match": {"path": path},
        "route": {"cluster": "unused"},
        "typed_per_filter_config": {_FILTER: off},
    }
