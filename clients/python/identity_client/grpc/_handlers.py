"""The handlers of a server's methods behind the check of a guard, kept from call to call."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc

from identity_client.policy import Requirement
from identity_shared.lru_cache import LruCache

_CACHE_BYTES: Final = 1 << 20
"""The memory for kept handlers, since a generic handler may accept every name that clients choose."""
_HANDLER_BYTES: Final = 1000
"""The approximate memory of one handler in bytes, without the name of its method."""

if TYPE_CHECKING:
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]  # no generic class when the program runs
    Wrap: TypeAlias = Callable[[Handler, Requirement], Handler]


class GuardedHandlers:
    """A bounded cache of the handlers that a guard has wrapped, by method. Any thread may use it."""

    def __init__(self, wrap: "Wrap") -> None:
        """Create an empty cache.

        Args:
            wrap: returns a handler that checks the caller by a requirement, and then calls the given handler.
        """
        self._wrap = wrap
        self._wrapped: LruCache[str, tuple[Handler, Requirement, Handler]] = LruCache(_CACHE_BYTES)

    def behind_check(self, method: str, handler: "Handler", requirement: Requirement) -> "Handler":
        """Return the wrapped handler of a method.

        It is wrapped anew if the server has another handler for the method than at the last call: a generic
        handler, or an interceptor behind the guard, may return a new one each time.
        """
        known = self._wrapped.get(method)
        if known is not None and known[0] is handler and known[1] is requirement:
            return known[2]
        wrapped = self._wrap(handler, requirement)
        self._wrapped.put(method, (handler, requirement, wrapped), _HANDLER_BYTES + len(method))
        return wrapped
