"""The id of a request, which its client may choose; log lines, audit events and errors name it."""

import os
import re
from collections.abc import Iterable
from typing import Final

REQUEST_ID: Final = "x-request-id"
"""The header or metadata key of the id, in requests and in answers."""
_USABLE: Final = re.compile(r"[\x21-\x7e]{1,128}")


def request_id(sent: Iterable[str]) -> str:
    """Return the first of the client's ids that is 1 to 128 visible ASCII characters, else a new id."""
    return next(filter(_USABLE.fullmatch, sent), None) or new_request_id()


def new_request_id() -> str:
    """Return a random id for a request whose client sent no usable one."""
    return os.urandom(8).hex()
