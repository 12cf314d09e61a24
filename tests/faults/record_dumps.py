"""A backup of clients, users and signing keys in a Redis store, without revocations and sessions."""

from collections.abc import Mapping

import redis

RECORDS = ("{idn}:client:*", "{idn}:user:*", "{idn}:key:*", "{idn}:index:*", "{idn}:usernames")


def dump_records(operator: redis.Redis) -> Mapping[bytes, bytes]:
    """Return the serialised value (Redis DUMP) of each record, by its key."""
    names = [name for pattern in RECORDS for name in operator.scan_iter(pattern)]
    values = {name: operator.dump(name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def restore_records(operator: redis.Redis, records: Mapping[bytes, bytes]) -> None:
    """Write the records of `dump_records` into a store that has lost them."""
    for name, value in records.items():
        operator.restore(name, 0, value)
