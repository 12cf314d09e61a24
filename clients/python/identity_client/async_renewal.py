"""An access token that is renewed before it expires, for asyncio.

from identity_client import AsyncAccessTokens
from identity_client.grpc.aio import secure_channel

async with AsyncAccessTokens.from_env(audience="reports") as tokens:
    async with secure_channel("reports:443", tokens) as channel:
        await ReportsStub(channel).Get(request)
"""

import asyncio
import time

from identity_client.closing import AsyncClosing
from identity_client.renewal import gives_up, late
from identity_client.renewed_tokens import RenewedTokens
from identity_client.token_renewer import Paused, Ready, Renewing, TokenRenewer
from identity_client.values import TokenSet


class AsyncAccessTokens(RenewedTokens, AsyncClosing):
    """The same as `AccessTokens`, with coroutines that do not block the event loop.

    A renewal runs in a thread: a task that is cancelled while it waits ends neither the renewal nor the
    waiting of other tasks, and credential files and functions (`by_assertion`) may block. Tasks of several
    event loops may use one object. See `RenewedTokens` for the renewal and the constructors.
    """

    async def __call__(self, timeout: float | None = None) -> str:
        """Return an access token that has not expired; see `AccessTokens.__call__`."""
        return (await wait_for_tokens(self._renewer, timeout, self.wait)).access_token

    async def logout(self) -> None:
        """End the session, if there is one, and forget all tokens; see `AccessTokens.logout`."""
        await asyncio.to_thread(self._end_session)

    async def close(self) -> None:
        """End the session, if there is one, and close the connection."""
        await asyncio.to_thread(self._end)


async def wait_for_tokens(renewer: TokenRenewer, timeout: float | None, wait: float) -> TokenSet:
    """Return tokens that have not expired; see `identity_client.renewal.wait_for_tokens`."""
    end = time.monotonic() + (wait if timeout is None else timeout)
    while True:
        match renewer.look():
            case Ready(tokens):
                return tokens
            case Renewing(future):
                renewal = asyncio.wrap_future(future)
                renewal.add_done_callback(_see)
                # `asyncio.wait` leaves the renewal alone when its own task is cancelled, or its time is up.
                left = None if timeout is None else max(end - time.monotonic(), 0.0)
                await asyncio.wait([renewal], timeout=left)
                if not renewal.done():
                    raise late(timeout or 0.0)
                if (error := renewal.exception()) is None:
                    return renewal.result()
                if gives_up(error, wait, end):
                    raise error
            case Paused(seconds, error):
                if gives_up(error, wait, end - seconds):
                    raise error.with_traceback(None)  # each raise would make its traceback longer
                await asyncio.sleep(seconds)


def _see(renewal: "asyncio.Future[TokenSet]") -> None:
    """Take note of the error, which asyncio would log otherwise if no task waits for it any more."""
    if not renewal.cancelled():
        renewal.exception()
