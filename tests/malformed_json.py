"""Texts that the strict JSON reader must refuse.

They are no JSON objects, or objects that two parsers may read differently, such as one with a repeated name.
"""

from typing import Final

from identity_shared.strict import MAX_DEPTH

MALFORMED: Final = [
    b"",
    b"[]",
    b'"a"',
    b"1",
    b"null",
    b"{",
    b'{"a":1,"a":2}',
    b'{"x":{"a":1,"a":1}}',
    b'{"a":1,"\\u0061":2}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":1e999}',
    b'{"a":' + b"9" * 33 + b"}",
    b'{"a":0.' + b"1" * 100 + b"}",
    b"{'a':1}",
    b'{"a":"\\ud800"}',
    b'{"a":["\\uDFFF\\uD800"]}',
    b'{"\\ud800":1}',
    b'{"a":1}x',
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',
    '{"a":1}'.encode("utf-16"),
    b"\xef\xbb\xbf{}",
    b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b"[" * 10_000,
]
