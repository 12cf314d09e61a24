"""Copying a store on Redis, on one server or spread over a cluster: the port `Copying`."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager

from identity_service.domain.copying import CopiedItem, Fence
from identity_service.domain.errors import AlreadyExistsError, StoreUninitializedError
from identity_service.domain.ids import Epoch, PrincipalId, new_epoch
from identity_service.domain.log import Generation, Head
from identity_service.storage.audit_codec import RingSizes
from identity_service.storage.copies import require_copyable
from identity_service.storage.fence import decode_fence, encode_fence
from identity_service.storage.redis import keyspace as keys
from identity_service.storage.redis.audit import AuditLog
from identity_service.storage.redis.client.connection import Connection
from identity_service.storage.redis.exporting import Export
from identity_service.storage.redis.importing import Import, clear
from identity_service.storage.redis.log import RedisLog
from identity_service.storage.redis.records import Records
from identity_service.storage.redis.writing import Writing


class RedisCopying:
    """Implements the port `Copying`."""

    def __init__(
        self,
        connection: Connection,
        writing: Writing,
        log: RedisLog,
        records: Records,
        audit: AuditLog,
        keep_events: RingSizes,
    ) -> None:
        self._connection = connection
        self._log = log
        self._export = Export(connection, writing, log, records, audit)
        self._keep_events = keep_events

    @contextmanager
    def export(self, *, whole: bool) -> Iterator[tuple[Head, Iterator[CopiedItem]]]:
        head = require_copyable(self._log.head())
        with closing(self._export.items(head, whole=whole)) as items:
            yield head, items

    def fence(self, fence: Fence) -> None:
        self._connection.run("fence", [keys.HEAD], [encode_fence(fence), fence.target], durable=True)

    def fenced(self) -> Fence | None:
        epoch, fence = self._connection.command("HMGET", keys.HEAD, "epoch", "fence")
        if epoch is None:
            self._log.head()  # says why there is none
            raise StoreUninitializedError("the store's head appeared a moment ago; try again")
        return decode_fence(fence or "", f"{keys.HEAD}, fence")

    def lift_fence(self, only: Fence | None = None) -> bool:
        words = [encode_fence(only)] if only is not None else []
        return bool(self._connection.run("lift_fence", [keys.HEAD], words, durable=True))

    def is_virgin(self) -> bool:
        for number, each in enumerate(self._connection.servers()):
            with each as server:
                scans = [server.scan("scan_keys", [], keys.SESSIONS)]
                if number == 0:
                    scans.insert(0, server.scan("scan_keys", [keys.HEAD], keys.ALL))
                if any(found for scan in scans for found in scan):
                    return False
        return True

    def has_part_of_copy(self) -> bool:
        has_head, has_mark = (self._connection.command("EXISTS", key) for key in (keys.HEAD, keys.COPY))
        return bool(has_mark and not has_head)

    def generations_held(self) -> Mapping[PrincipalId, Generation]:
        return self._log.generations()

    def write_copy(self, items: Iterable[CopiedItem], epoch: Epoch, *, replace: bool) -> None:
        if not (replace or self.is_virgin()):
            raise AlreadyExistsError("the store holds data already: nothing was written")
        copy = Import(self._connection, epoch, self._keep_events)
        copy.begin(replace=replace)
        copy.write(items)
        copy.finish()

    def discard_copy(self) -> None:
        name = new_epoch()
        if self._connection.run("seize_copy", [keys.HEAD, keys.COPY], [name], durable=True):
            clear(self._connection, name)
            found = [keys.HEAD, keys.COPY, keys.OLD_HEAD]
            self._connection.run("discard_copy", found, [name], durable=True)
