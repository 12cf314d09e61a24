"""The codec of the fence of a store, and the error of a write to a fenced store. Knows no store."""

import json

from identity_service.domain.copying import Fence
from identity_service.domain.errors import StoreDamagedError, StoreFencedError, StoreUnavailableError
from identity_service.domain.ids import Epoch
from identity_service.storage.codec import dumps, reading


def encode_fence(fence: Fence) -> str:
    """Return the fence as JSON text."""
    return dumps({"target": fence.target, "epoch": fence.epoch})


def decode_fence(text: str, where: str) -> Fence | None:
    """Return the fence, or None for an empty text. Raises StoreDamagedError, which names `where`."""
    if not text:
        return None
    with reading(where, "holds a fence that this version does not know"):
        data = json.loads(text)
        return Fence(target=str(data["target"]), epoch=Epoch(data["epoch"]))


def fence_error(text: str, where: str) -> StoreUnavailableError:
    """Return the error that a write to a store with this fence raises.

    That is StoreFencedError, or StoreDamagedError if the fence cannot be read.
    """
    try:
        fence = decode_fence(text, where)
    except StoreDamagedError as error:
        return error
    return StoreFencedError(fence.target if fence is not None else "another one")
