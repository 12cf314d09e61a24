"""The request paths that Envoy passes on to Python."""

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.envoy.paths import UTF8_PATH

BYTES = st.one_of(st.binary(max_size=6), st.text(max_size=4).map(str.encode))


@given(BYTES, st.booleans())
def test_a_path_is_passed_on_if_what_it_encodes_is_utf8(data: bytes, lower: bool) -> None:
    path = "/" + "".join(f"%{byte:02x}" if lower else f"%{byte:02X}" for byte in data)

    assert bool(re.fullmatch(UTF8_PATH, path)) is _is_utf8(data)


@pytest.mark.parametrize("path", ["/%", "/%f", "/%zz", "/%%ff", "/%c3/%a9", "/a%ffb", "/é", "/\xff", "/ "])
def test_a_path_that_is_malformed_is_not_passed_on(path: str) -> None:
    assert not re.fullmatch(UTF8_PATH, path)


def test_every_pair_of_bytes_is_judged_as_python_judges_it() -> None:
    for number in range(0x8000, 0x10000):
        path = f"/%{number >> 8:02x}%{number & 255:02X}/x"
        assert bool(re.fullmatch(UTF8_PATH, path)) is _is_utf8(unquote_to_bytes(path)), path


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
