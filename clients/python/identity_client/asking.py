"""Asks the service about tokens while a guard's verifier is stale, by one Verify RPC at a time per token."""

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Iterable
from concurrent.futures import Future
from typing import Any, Final, Protocol

from identity_client.admission import Admission, Question
from identity_client.caller import Caller
from identity_client.policy import PolicyError
from identity_client.values import Outcome

_log: Final = logging.getLogger("identity_client.guard")


class Asked(Protocol):
    """The part of `IdentityClient` that a guard needs."""

    def verify(
        self,
        token: str,
        *,
        audiences: Iterable[str],
        required_scopes: Iterable[str],
        certificate_sha256: bytes,
    ) -> Outcome:
        """Verify an access token by the Verify RPC."""


class AsyncAsked(Protocol):
    """The part of `AsyncIdentityClient` that a guard needs."""

    def verify(
        self,
        token: str,
        *,
        audiences: Iterable[str],
        required_scopes: Iterable[str],
        certificate_sha256: bytes,
    ) -> Awaitable[Outcome]:
        """Verify an access token by the Verify RPC."""


def check_ask(*, asks: bool, given: bool) -> None:
    """Raise PolicyError if a policy has the service asked, and the guard was given no client for it."""
    if asks and not given:
        raise PolicyError(
            "the policy says ASK, so the guard needs a client: Guard(..., ask=IdentityClient(...))"
        )


class Asking:
    """Sends questions with an `IdentityClient`; calls with the same token wait for the same answer."""

    def __init__(self, admission: Admission, client: Asked | None) -> None:
        """Prepare to send questions; without a client, each call that needs an answer is refused."""
        self._admission = admission
        self._client = client
        self._lock = threading.Lock()
        self._open: dict[Question, Future[Outcome]] = {}

    def ask(self, question: Question) -> Caller:
        """Return the caller that the service's answer names. Without an answer, raises RefusedError too."""
        with self._lock:
            answer = self._open.get(question)
            is_first = answer is None
            if answer is None:
                answer = self._open[question] = Future()
        if is_first:
            try:
                answer.set_result(_verify(self._client, question))
            except BaseException as error:  # noqa: BLE001  # passed on to all that wait
                answer.set_exception(error)
            finally:
                with self._lock:
                    del self._open[question]
        try:
            outcome = answer.result()
        except Exception as error:  # noqa: BLE001  # whatever failed, the token is not verified
            _log.warning("the service could not be asked about a token: %s", error)
            raise self._admission.unanswered() from None
        return self._admission.conclude(question, outcome)


class AsyncAsking:
    """Sends questions with an `AsyncIdentityClient`, or with an `IdentityClient` in a thread."""

    def __init__(self, admission: Admission, client: Asked | AsyncAsked | None) -> None:
        """Prepare to send questions; without a client, each call that needs an answer is refused."""
        self._admission = admission
        self._client = client
        self._open: dict[Question, asyncio.Task[Outcome]] = {}

    async def ask(self, question: Question) -> Caller:
        """Return the caller that the service's answer names. Without an answer, raises RefusedError too.

        If one of the calls that wait for an answer is cancelled, the others still get it.
        """
        task = self._open.get(question)
        if task is None:
            task = self._open[question] = asyncio.create_task(self._answer(question))
            task.add_done_callback(lambda done: self._closed(question, done))
        try:
            outcome = await asyncio.shield(task)
        except Exception as error:  # noqa: BLE001  # whatever failed, the token is not verified
            _log.warning("the service could not be asked about a token: %s", error)
            raise self._admission.unanswered() from None
        return self._admission.conclude(question, outcome)

    async def _answer(self, question: Question) -> Outcome:
        if inspect.iscoroutinefunction(getattr(self._client, "verify", None)):
            outcome: Outcome = await _verify(self._client, question)
            return outcome
        return await asyncio.to_thread(_verify, self._client, question)

    def _closed(self, question: Question, task: asyncio.Task[Outcome]) -> None:
        del self._open[question]
        if not task.cancelled():
            task.exception()  # it was logged, unless no call waits any more


def _verify(client: Asked | AsyncAsked | None, question: Question) -> Any:
    if client is None:
        raise PolicyError("the guard has no client")
    return client.verify(
        question.token,
        audiences=question.requirement.audiences,
        required_scopes=question.requirement.scopes,
        certificate_sha256=question.certificate_sha256,
    )
