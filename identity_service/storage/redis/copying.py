"""Copying a whole store on Redis, on one server or on a cluster: an implementation of the port `Copying`."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager

from identity_service.domain.audit import RingSizes
from identity_service.domain.copying import CopiedItem, Fence
from identity_service.domain.errors import AlreadyExistsError, StoreUninitializedError
from identity_service.domain.ids import Epoch, PrincipalId, new_epoch
from identity_service.domain.log import Generation, Head
from identity_service.storage.codec import decode_fence, encode_fence
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.client.connection import RedisConnection
from identity_service.storage.redis.exporting import Export
from identity_service.storage.redis.importing import Import, clear
from identity_service.storage.redis.log import RedisLog
from identity_service.storage.whole_log import require_copyable


class RedisCopying:
    """The reader and the writer of copies of a store on Redis, implementing the port `Copying`."""

    def __init__(
        self,
        connection: RedisConnection,
        log: RedisLog,
        export: Export,
        keep_events: RingSizes,
    ) -> None:
        self._connection = connection
        self._log = log
        self._export = export
        self._keep_events = keep_events

    @contextmanager
    def export(self, *, whole: bool) -> Iterator[tuple[Head, Iterator[CopiedItem]]]:
        """Yield the head and an iterator over the items, which scans the store and then follows the log."""
        head = require_copyable(self._log.head())
        with closing(self._export.items(head, whole=whole)) as items:
            yield head, items

    def fence(self, fence: Fence) -> None:
        """Set the fence in the head; writes are refused from then on."""
        self._connection.run("fence", [keys.HEAD], [encode_fence(fence), fence.target], durable=True)

    def fenced(self) -> Fence | None:
        """Return the fence in the head, or None."""
        epoch, fence = self._connection.command("HMGET", keys.HEAD, "epoch", "fence")
        if epoch is None:
            self._log.head()  # raises the error that says why there is no head
            raise StoreUninitializedError("the store's head appeared a moment ago; try again")
        return decode_fence(fence or "", f"{keys.HEAD}, fence")

    def lift_fence(self, only: Fence | None = None) -> bool:
        """Remove the fence from the head, or only this fence; return whether one was removed."""
        words = [encode_fence(only)] if only is not None else []
        return bool(self._connection.run("lift_fence", [keys.HEAD], words, durable=True))

    def is_empty(self) -> bool:
        """Return whether no server holds a key of this service; this scans all keys of all servers."""
        for number, each in enumerate(self._connection.servers()):
            with each as server:
                scans = [server.scan("scan_keys", [], keys.SESSIONS)]
                if number == 0:
                    scans.insert(0, server.scan("scan_keys", [keys.HEAD], keys.ALL))
                if any(found for scan in scans for found in scan):
                    return False
        return True

    def has_part_of_copy(self) -> bool:
        """Return whether there is the mark of an unfinished copy and no head."""
        has_head, has_mark = (self._connection.command("EXISTS", key) for key in (keys.HEAD, keys.COPY))
        return bool(has_mark and not has_head)

    def generations_held(self) -> Mapping[PrincipalId, Generation]:
        """Return the table of generations, which is read without the head."""
        return self._log.generations()

    def write_copy(self, items: Iterable[CopiedItem], epoch: Epoch, *, replace: bool) -> None:
        """Write all items, and the head last; with `replace` delete every key of this service before."""
        if not (replace or self.is_empty()):
            raise AlreadyExistsError("the store holds data already: nothing was written")
        copy = Import(self._connection, epoch, self._keep_events)
        copy.begin(replace=replace)
        copy.write(items)
        copy.finish()

    def discard_copy(self) -> None:
        """Rename the unfinished copy, which stops its writer, then delete its keys, the mark last."""
        name = new_epoch()
        if self._connection.run("seize_copy", [keys.HEAD, keys.COPY], [name], durable=True):
            clear(self._connection, name)
            found = [keys.HEAD, keys.COPY, keys.OLD_HEAD]
            self._connection.run("discard_copy", found, [name], durable=True)
