"""Verifies tokens locally, in microseconds, with the keys and revocations that the service streams.

from identity_client import LocalVerifier, Verified

with LocalVerifier("127.0.0.1:50051", issuer="https://identity.example") as verifier:
    outcome = verifier.verify(token, audiences=["api"], required_scopes=["read"])
    if isinstance(outcome, Verified):
        ...

A background thread follows `TrustService.Watch`. `verify` only reads memory, so it may be called from any
thread and in an asyncio event loop.
"""

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Self, TypeVar

from identity_client.backoff import Backoff
from identity_client.closing import Closing
from identity_client.decryption import DecryptionKey
from identity_client.environment import VERIFY, Environment
from identity_client.errors import SilentError
from identity_client.options import ClientOptions
from identity_client.renewal import AccessTokens
from identity_client.renewed_tokens import RenewedTokens
from identity_client.trust import TrustClient
from identity_client.trust_follower import seconds_of
from identity_client.verifier_core import VerifierCore

S = TypeVar("S", bound=RenewedTokens)


class LocalVerifier(VerifierCore, Closing):
    """A verifier that answers like `IdentityClient.verify`, without a call to the service.

    Make one for each process and keep it; it follows the service as soon as it is made. It may be used as a
    context manager, which closes it. It does not work in a child process that was forked afterwards.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        issuer: str | Collection[str],
        options: ClientOptions | None = None,
        decryption_keys: Iterable[DecryptionKey] = (),
        max_staleness: timedelta = timedelta(seconds=5),
        leeway: timedelta = timedelta(seconds=10),
        cache_bytes: int = 16 * 2**20,
    ) -> None:
        """Start to follow the service in a background thread.

        Args:
            target: host:port of the service.
            issuer: the service's setting `issuer`; tokens with another `iss` are rejected. To accept former
                values too (`accepted_issuers` of the service), give a collection of all of them.
            options: the options of the connection; set `bearer` if the service has `require_caller_auth` or
                TLS.
            decryption_keys: keys of the audience that verifies, for tokens that were encrypted to it.
            max_staleness: the time after the last confirmation of the service's store for which tokens are
                verified; afterwards `verify` raises NotFreshError.
            leeway: the largest difference between the clocks of this machine and of the service; if they
                differ by more, `verify` raises NotFreshError. It is also added to the lifetime of tokens. At
                most the service's.
            cache_bytes: the memory for verified tokens, about 5 KiB each.

        Raises ValueError if no issuer is given, or the connection would have no TLS (see
        `ClientOptions.allow_plaintext`); OSError if a file of `options.tls` cannot be read.
        """
        super().__init__(
            issuer=issuer,
            decryption_keys=decryption_keys,
            max_staleness=max_staleness,
            leeway=leeway,
            cache_bytes=cache_bytes,
        )
        self._client = TrustClient(target, options=options)
        self._tokens: AccessTokens | None = None
        """The source of the verifier's own token, which is closed with it."""
        self._max_silence = max_staleness / 2
        self._changed = threading.Condition(self._lock)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="identity-watch", daemon=True)
        self._thread.start()

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, *, allow_plaintext: bool = False, **options: Any
    ) -> Self:
        """Start to follow the service that environment variables name; `Environment` lists them.

        If they name a credential other than a certificate, the verifier gets itself a token with the scope
        identity.verify, and renews it. A certificate is shown to the service instead.

        Args:
            environ: the variables; None = those of this process.
            allow_plaintext: whether to do without TLS to another machine, if no variable asks for TLS.
            options: further arguments of the constructor, such as `max_staleness`.

        Raises ValueError, with the name of the variable, if variables contradict each other, and what the
        constructor raises.
        """
        found = Environment.read(environ)
        connection, tokens = verifying_options(found, AccessTokens, allow_plaintext=allow_plaintext)
        verifier = cls(found.target, issuer=found.issuers, options=connection, **options)
        verifier._tokens = tokens
        return verifier

    def close(self) -> None:
        """Stop following the service; afterwards `verify` raises NotFreshError."""
        self._closing.set()
        self._end()
        self._client.close()
        self._thread.join(timeout=5)
        if self._tokens is not None:
            self._tokens.close()

    def wait_ready(self, timeout: timedelta | float = timedelta(seconds=10)) -> None:
        """Wait until tokens can be verified. Raises NotFreshError after `timeout`; a number is in seconds."""
        with self._changed:
            if not self._changed.wait_for(self._is_fresh, seconds_of(timeout)):
                self._require_fresh()

    def _confirmed(self) -> None:
        self._changed.notify_all()

    def _follow(self) -> None:
        """Follow Watch until `close`; resume at the last revision after each end of the stream."""
        backoff, max_silence = Backoff(), self._max_silence
        while not self._closing.is_set():
            failure: Exception | None = None
            try:
                for event in self._client.watch(self._begin(), max_silence=max_silence):
                    self._apply(event)
                    if event.time is not None:  # a heartbeat is sent after all that was missed
                        backoff.reset()
            except Exception as error:  # noqa: BLE001  # `_note` decides what each means
                failure = self._note(error)
            # More time for a service that sends few heartbeats, or sends a snapshot to many watchers.
            max_silence = self._max_silence * (2 if isinstance(failure, SilentError) else 1)
            self._closing.wait(backoff.next_pause(failure))


def verifying_options(
    found: Environment, kind: type[S], *, allow_plaintext: bool
) -> tuple[ClientOptions, S | None]:
    """Return the options with which a verifier connects to the service that the environment names.

    Returns also the source of the verifier's own token, of the given class, which the caller closes; None if
    the environment names no credential other than a certificate.
    """
    options = found.options(allow_plaintext=allow_plaintext)
    if not found.has_sign_in:
        return options, None
    tokens: Any = kind.from_env(scopes=[VERIFY], environment=found, allow_plaintext=allow_plaintext)
    return replace(options, bearer=tokens), tokens
