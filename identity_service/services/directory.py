"""A bounded cache of client records, invalidated when the change log says that a client has changed.

A record that is slightly old is harmless: disabling or deleting a client raises its generation, so a token
that was issued from the old record is refused.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from identity_service.domain.ids import FIRST_PARTY_CLIENT, PrincipalId
from identity_service.domain.log import RecordChanged, RecordKind
from identity_service.domain.origin import PeerCertificate
from identity_service.domain.principals import Client
from identity_service.domain.store import RecordStore, all_records
from identity_service.services.verify import StoreReadRequiredError

_LIMIT: Final = 10_000
"""The number of clients, and of certificates, that are cached."""


class Directory:
    """A thread-safe cache that finds clients by id or certificate, and reads the store if necessary."""

    def __init__(self, records: RecordStore, *, limit: int = _LIMIT) -> None:
        self._records = records
        self._limit = limit
        self._lock = threading.Lock()
        self._clients: OrderedDict[str, Client | None] = OrderedDict()
        self._by_certificate: OrderedDict[bytes, PrincipalId | None] = OrderedDict()
        self._changes = 0
        self._searching = threading.Lock()
        self._has_public: bool | None = None
        """The answer of `has_public_client`; None = a client may have changed since."""

    def client(self, client_id: PrincipalId, *, may_wait: bool = True) -> Client | None:
        """Return the client, or None if there is none (which is cached too).

        Raises StoreUnavailableError; StoreReadRequiredError if `may_wait` is False and it is not cached.
        """
        with self._lock:
            if client_id in self._clients:
                self._clients.move_to_end(client_id)
                return self._clients[client_id]
            changes = self._changes
        if not may_wait:
            raise StoreReadRequiredError
        found = self._records.get(Client, client_id)
        client = found.record if found is not None else None
        with self._lock:
            # If a change was applied during the read, the record read may be older than that change.
            if changes == self._changes:
                self._clients[client_id] = client
                if len(self._clients) > self._limit:
                    self._clients.popitem(last=False)
        return client

    def client_of(self, certificate: PeerCertificate, *, may_wait: bool = True) -> Client | None:
        """Return the client that has registered a name of the certificate; None = no client, or several.

        Raises StoreUnavailableError; StoreReadRequiredError if `may_wait` is False and it is not cached.
        """
        with self._lock:
            known = certificate.sha256 in self._by_certificate
            client_id = self._by_certificate.get(certificate.sha256)
            changes = self._changes
        if not known:
            if not may_wait:
                raise StoreReadRequiredError
            found = [self._records.find_client(name) for name in certificate.names]
            ids = {client.record.client_id for client in found if client is not None}
            client_id = ids.pop() if len(ids) == 1 else None  # a certificate of two clients proves neither
            with self._lock:
                if changes == self._changes:
                    self._by_certificate[certificate.sha256] = client_id
                    if len(self._by_certificate) > self._limit:
                        self._by_certificate.popitem(last=False)
        client = self.client(client_id, may_wait=may_wait) if client_id is not None else None
        return client if client is not None and client.certificates & certificate.names else None

    def has_public_client(self) -> bool:
        """Return whether there is a client that only names itself (see `Client.only_names_itself`).

        The answer is kept until a client changes; then one thread at a time reads the records, the built-in
        client first, until one is found. Raises StoreUnavailableError.
        """
        with self._searching:
            with self._lock:
                known, changes = self._has_public, self._changes
            if known is not None:
                return known
            built_in = self.client(FIRST_PARTY_CLIENT)
            found = (built_in is not None and built_in.only_names_itself) or any(
                each.record.only_names_itself for each in all_records(self._records, Client)
            )
            with self._lock:
                if changes == self._changes:
                    self._has_public = found
            return found

    def on_records_changed(self, changes: Sequence[RecordChanged] | None) -> None:
        """Drop the clients that have changed from the cache; None = drop everything."""
        ids = [change.id for change in changes or () if change.kind is RecordKind.CLIENT]
        if changes is not None and not ids:
            return
        with self._lock:
            self._changes += 1
            self._has_public = None
            self._by_certificate.clear()
            if changes is None:
                self._clients.clear()
            for client_id in ids:
                self._clients.pop(client_id, None)
