"""Every open call of one server: counted against the limits, and ended if its client is too slow."""

import threading
from typing import Any, Final

from identity_service.domain.errors import IdentityError, RequestTimeoutError
from identity_service.grpc_api.core.calls import OpenCall, Phase
from identity_service.grpc_api.core.memory import FreedMemory
from identity_service.grpc_api.errors import new_request_id, to_status
from identity_service.grpc_api.limits import Limits

_LOOK_EVERY: Final = 0.1
"""Seconds between two looks for calls whose client is too slow; one takes 0.2 ms for each 1,000 calls."""
_READING: Final = (Phase.SENDING, Phase.ENDING)
"""What a client ends by reading."""


class OpenCalls:
    """Every open call of one server: counted against the limits, and ended if its client is too slow."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._monotonic = limits.monotonic
        self._request_timeout = limits.config.request_timeout.total_seconds()
        self._send_timeout = limits.config.send_timeout.total_seconds()
        # Only the thread that serves all calls adds and removes.
        self._open: set[OpenCall] = set()
        self._closed = threading.Event()
        self._memory = FreedMemory(limits.monotonic)

    @property
    def are_any(self) -> bool:
        """Return whether a call is open."""
        return bool(self._open)

    def start(self) -> None:
        """Begin to look for calls whose client is too slow."""
        threading.Thread(target=self._watch, name="identity-calls", daemon=True).start()

    def close(self) -> None:
        """End the thread that looks for them."""
        self._closed.set()

    def admit(self, event: Any, state: Any) -> OpenCall | None:
        """Return the call once it is counted; None if a limit refused it, which its client is told."""
        limits = self._limits
        address = limits.peers.address_of(event.call.peer().decode())
        call = OpenCall(event, state, address, self._monotonic())
        try:
            limits.calls.take(address)
            try:
                call.beyond = limits.receives.take(address, briefly=True)
            except IdentityError:
                limits.calls.give_back(address)
                raise
        except IdentityError as error:
            call.abort(to_status(error, new_request_id()))
            return None
        self._open.add(call)
        state.callbacks.append(lambda: self._finished(call))
        return call

    def received(self, call: OpenCall) -> bool:
        """Note that the request is here; False if the call was ended before."""
        with call.state.condition:
            if call.phase is not Phase.RECEIVING:
                return False
            call.phase = Phase.RUNNING
        self._limits.receives.give_back(call.address)
        return True

    def note_unfinished(self) -> None:
        """Note that the client of a call sends no more, and perhaps has sent a part of a large message."""
        self._memory.note()

    def streaming(self, call: OpenCall) -> None:
        """Note that the call is open for a sender of streams."""
        with call.state.condition:
            if not call.state.statused and not self._abandoned(call):
                call.phase = Phase.STREAMING

    def sending(self, call: OpenCall) -> None:
        """Note that a message is sent to the client, which has `send_timeout` to read it."""
        with call.state.condition:
            if not call.state.statused and not self._abandoned(call):
                call.since, call.phase = self._monotonic(), Phase.SENDING

    def ending(self, call: OpenCall) -> None:
        """Note that the handler has answered: the client has `send_timeout` to read that."""
        with call.state.condition:
            if call.phase is not Phase.ENDING and not self._abandoned(call):
                # The time first: the thread that watches looks at the phase without the lock.
                call.since, call.phase = self._monotonic(), Phase.ENDING

    def _abandoned(self, call: OpenCall) -> bool:
        """Return whether the call has ended; it counts no longer if what it waited for was its handler."""
        if call.phase is Phase.ABANDONED:
            call.phase = Phase.ENDED
            self._limits.calls.give_back(call.address)
        return call.phase is Phase.ENDED

    def _finished(self, call: OpenCall) -> None:
        with call.state.condition:
            phase = call.phase
            call.phase = Phase.ABANDONED if phase is Phase.RUNNING else Phase.ENDED
        self._open.discard(call)
        if phase is Phase.RECEIVING:
            self._limits.receives.give_back(call.address)
            self._memory.note()
        if phase is not Phase.RUNNING:
            self._limits.calls.give_back(call.address)

    def _watch(self) -> None:
        while not self._closed.wait(_LOOK_EVERY):
            self._memory.give_back()
            now = self._monotonic()
            for call in self._open.copy():
                if call.phase is Phase.RECEIVING:
                    timeout = self._limits.receive_grace if call.beyond else self._request_timeout
                    if now - call.since > timeout:
                        self._give_up_receiving(call)
                elif call.phase in _READING and now - call.since > self._send_timeout:
                    self._limits.hit("send_timeout", call.address)
                    call.event.call.cancel()

    def _give_up_receiving(self, call: OpenCall) -> None:
        with call.state.condition:
            if self.received(call):
                call.abort(to_status(self._late(call), new_request_id()))
                self.ending(call)
                self._memory.note()

    def _late(self, call: OpenCall) -> IdentityError:
        if call.beyond:
            return self._limits.receives.refuse_beyond(call.address)
        self._limits.hit("request_timeout", call.address)
        return RequestTimeoutError(self._request_timeout)
