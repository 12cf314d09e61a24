"""Fetching a document from an issuer: one GET over https, bounded in time and size. Reads no key.

No redirect is followed, since it would lead to somebody whom no administrator has named, and no proxy of
the environment is used: where one is needed, a file that something else keeps up to date does as well.
"""

import re
import ssl
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

import urllib3
from urllib3.exceptions import HTTPError

from identity_service.domain.errors import ConfigurationError

_STEP_SECONDS: Final = 3.0
"""For connecting, and for each part of the answer."""
_CHUNK_BYTES: Final = 16 * 1024
_MAX_AGE: Final = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?(\d{1,9})\b", re.IGNORECASE)
_NO_CACHE: Final = re.compile(r"(?:^|,)\s*no-(?:cache|store)\b", re.IGNORECASE)


class FetchError(Exception):
    """There is no document; the text says why, in words for an operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What was fetched."""

    body: bytes
    max_age: timedelta | None = None
    """How long it may be kept, where the answer says so."""


class HttpsFetcher:
    """Fetches from any issuer. Any thread may call it."""

    def __init__(self, ca_file: Path | None, *, max_bytes: int, max_seconds: float = 10.0) -> None:
        """
        Args:
            ca_file: PEM, whom the issuers' certificates must come from; None = those of the system.
            max_bytes: of one document.
            max_seconds: for all of it, however steadily it comes.
        """
        self._ca_file = ca_file
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        if ca_file is not None:
            _ = self._pool  # what is wrong with the file shall be found at start

    def __call__(self, url: str) -> Document:
        """Raises FetchError."""
        try:
            response = self._pool.request(
                "GET", url, redirect=False, preload_content=False, decode_content=False
            )
            try:
                return self._read(response)
            finally:
                response.close()
        except (HTTPError, OSError, ValueError) as error:
            # Only the kind of error: its text may hold all of the URL.
            raise FetchError(_kind(error)) from None

    @cached_property
    def _pool(self) -> urllib3.PoolManager:
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            raise ConfigurationError(f"issuer_ca_file: {self._ca_file} cannot be read: {error}") from error
        return urllib3.PoolManager(
            ssl_context=context,
            timeout=urllib3.Timeout(connect=_STEP_SECONDS, read=_STEP_SECONDS),
            retries=False,
            # Asked for as it is, and not unpacked if it comes otherwise: a small answer could be a large one.
            headers={"accept": "application/json", "accept-encoding": "identity", "connection": "close"},
        )

    def _read(self, response: urllib3.BaseHTTPResponse) -> Document:
        if response.status != 200:
            raise FetchError(f"it answers with status {response.status}")
        deadline = time.monotonic() + self._max_seconds
        body = b""
        while chunk := response.read1(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._max_bytes:
                raise FetchError(f"its answer is longer than {self._max_bytes} bytes")
            if time.monotonic() > deadline:
                raise FetchError(f"its answer takes longer than {self._max_seconds} seconds")
        return Document(body=body, max_age=_max_age(response.headers.get("cache-control", "")))


def _max_age(cache_control: str) -> timedelta | None:
    if _NO_CACHE.search(cache_control):
        return timedelta(0)
    found = _MAX_AGE.search(cache_control)
    return timedelta(seconds=int(found[1])) if found else None


def _kind(error: BaseException) -> str:
    """The names of what happened, outermost first; of a certificate also what is wrong with it."""
    names: list[str] = []
    cause: object = error
    while isinstance(cause, BaseException) and len(names) < 4:
        if isinstance(cause, ssl.SSLCertVerificationError):
            names.append(cause.verify_message)
            break
        names.append(type(cause).__name__)
        cause = getattr(cause, "reason", None) or next(iter(cause.args), None)
    return "it cannot be reached: " + ", ".join(names)
