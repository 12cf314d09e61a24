"""An access token that is renewed before it expires, for clients that call services for a long time.

from identity_client import AccessTokens, AdminClient, ClientOptions

with AccessTokens.by_secret("ops", secret, scopes=["identity.admin"]) as tokens:
    with AdminClient(options=ClientOptions(bearer=tokens)) as admin:
        print([client.client_id for client in admin.list_clients()])
"""

import time
from typing import Final

import grpc

from identity_client.closing import Closing
from identity_client.errors import UnavailableError
from identity_client.renewed_tokens import RenewedTokens
from identity_client.token_renewer import Paused, Ready, Renewing, TokenRenewer
from identity_client.values import TokenSet

_LATE: Final = "no access token within {:g} s: the service that issues tokens is slow, or cannot be reached"


class AccessTokens(RenewedTokens, Closing):
    """A callable that returns a valid access token at each call, for `ClientOptions.bearer` and for channels.

    Any thread may call it. Closing it ends the session that `by_password` began. It may be used as a context
    manager, which closes it. See `RenewedTokens` for the renewal and the constructors.
    """

    def __call__(self, timeout: float | None = None) -> str:
        """Return an access token that has not expired.

        Args:
            timeout: the seconds to wait at most, such as those that the call has left which needs the token;
                None = `options.timeout`.

        Raises UnavailableError if the service cannot be reached in that time, another IdentityError if it
        issues no token, and the error of reading a credential's file.
        """
        return wait_for_tokens(self._renewer, timeout, self.wait).access_token

    def logout(self) -> None:
        """End the session, if there is one, and forget all tokens; the next call signs in again.

        The tokens are forgotten also if the service cannot be reached; then the session ends when it expires.
        """
        self._end_session()

    def close(self) -> None:
        """End the session, if there is one, and close the connection."""
        self._end()


def wait_for_tokens(renewer: TokenRenewer, timeout: float | None, wait: float) -> TokenSet:
    """Return tokens that have not expired; wait for them while a renewal is under way or must pause.

    Args:
        renewer: renews the tokens.
        timeout: the seconds that the call has; None = it waits until the renewal ends.
        wait: the seconds for which a failed renewal is repeated if the call has no `timeout`; 0 = none is
            repeated, whatever the call's time.

    Raises UnavailableError if there are none in time, and the error of the renewal.
    """
    end = time.monotonic() + (wait if timeout is None else timeout)
    while True:
        match renewer.look():
            case Ready(tokens):
                return tokens
            case Renewing(future):
                try:
                    return future.result(None if timeout is None else max(end - time.monotonic(), 0.0))
                except TimeoutError:
                    if not future.done():
                        raise late(timeout or 0.0) from None
                    raise
                except UnavailableError:
                    if not wait or time.monotonic() >= end:
                        raise
            case Paused(seconds, error):
                if gives_up(error, wait, end - seconds):
                    raise error.with_traceback(None)  # each raise would make its traceback longer
                time.sleep(seconds)


def gives_up(error: BaseException, wait: float, end: float) -> bool:
    """Return whether a call ends with the error of a renewal, instead of waiting for the next renewal."""
    return not isinstance(error, UnavailableError) or not wait or time.monotonic() >= end


def late(timeout: float) -> UnavailableError:
    """Return the error of a call for which no token came in time."""
    return UnavailableError(_LATE.format(timeout), code=grpc.StatusCode.DEADLINE_EXCEEDED)
