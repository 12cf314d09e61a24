"""A backup of the records of a Redis store: the directory and the keys, no revocation and no session."""

from collections.abc import Mapping

import redis

RECORDS = ("{idn}:client:*", "{idn}:user:*", "{idn}:key:*", "{idn}:index:*", "{idn}:usernames")


def dump_records(operator: redis.Redis) -> Mapping[bytes, bytes]:
    """Return the serialised records by key, as a backup holds them."""
    names = [name for pattern in RECORDS for name in operator.scan_iter(pattern)]
    values = {name: operator.dump(name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def restore_records(operator: redis.Redis, records: Mapping[bytes, bytes]) -> None:
    """Write the records of `dump_records` into a store that has lost them."""
    for name, value in records.items():
        operator.restore(name, 0, value)
