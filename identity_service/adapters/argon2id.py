"""One hash of a password with argon2id (RFC 9106), computed by no more threads than there are cores.

The only importer of `argon2`. The functions of that library start a thread for each lane. On one core these
compete with each other, so that another program waits longer for its turn: with four of them, the p99 of
Verify was twice what it is with one (`docs/decisions/0011`). The number of threads does not change the hash.
"""

import base64
import binascii
import hmac
import secrets
from typing import Final

from argon2 import Parameters, extract_parameters
from argon2.exceptions import InvalidHashError
from argon2.low_level import ARGON2_VERSION, Type, core, error_to_str, ffi

from identity_service.process.cores import available

_NO_MEMORY: Final = -22
"""The library's error code if the system is out of memory (ARGON2_MEMORY_ALLOCATION_ERROR)."""
_NO_THREAD: Final = -33
"""The library's error code if it cannot start a thread (ARGON2_THREAD_FAIL)."""
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32


class NoThreadError(Exception):
    """The library could not start a thread, so it is unknown whether the password is right."""


def parameters(*, passes: int, memory_kib: int, lanes: int) -> Parameters:
    """Return the parameters of hashes with this cost, by the names of RFC 9106 section 3.1."""
    return Parameters(
        type=Type.ID,
        version=ARGON2_VERSION,
        salt_len=_SALT_BYTES,
        hash_len=_HASH_BYTES,
        time_cost=passes,
        memory_cost=memory_kib,
        parallelism=lanes,
    )


def prefix(parameters: Parameters) -> str:
    """Return the text with which all hashes of these parameters begin, and no others."""
    cost = f"m={parameters.memory_cost},t={parameters.time_cost},p={parameters.parallelism}"
    return f"$argon2id$v={parameters.version}${cost}$"


def hash_password(parameters: Parameters, password: str) -> str:
    """Return the hash of a password, with a random salt, in PHC string format.

    Raises MemoryError; NoThreadError; ValueError if the library refuses the parameters.
    """
    salt = secrets.token_bytes(parameters.salt_len)
    digest = _derive(parameters, password, salt)
    return f"{prefix(parameters)}{_encoded(salt)}${_encoded(digest)}"


def matches(phc: str, password: str) -> bool:
    """Return whether a password has this hash; False if the hash is damaged.

    Raises MemoryError; NoThreadError.
    """
    try:
        salt, digest = (_decoded(part) for part in phc.split("$")[-2:])
        return hmac.compare_digest(_derive(extract_parameters(phc), password, salt), digest)
    except (InvalidHashError, ValueError, OverflowError):
        return False


def thread_count(lanes: int) -> int:
    """Return the number of threads that compute one hash: one for each core that this process may use."""
    return min(lanes, available())


def _derive(parameters: Parameters, password: str, salt: bytes) -> bytes:
    """Return the raw hash. Raises MemoryError; NoThreadError; ValueError."""
    secret = password.encode()
    out = ffi.new("uint8_t[]", parameters.hash_len)
    # The buffers stay referenced here until the library returns.
    secret_buffer, salt_buffer = ffi.new("uint8_t[]", secret), ffi.new("uint8_t[]", salt)
    context = ffi.new(
        "argon2_context *",
        {
            "out": out,
            "outlen": parameters.hash_len,
            "pwd": secret_buffer,
            "pwdlen": len(secret),
            "salt": salt_buffer,
            "saltlen": len(salt),
            "t_cost": parameters.time_cost,
            "m_cost": parameters.memory_cost,
            "lanes": parameters.parallelism,
            "threads": thread_count(parameters.parallelism),
            "version": parameters.version,
        },
    )
    code = core(context, parameters.type.value)
    if code == _NO_MEMORY:
        raise MemoryError(error_to_str(code))
    if code == _NO_THREAD:
        raise NoThreadError(error_to_str(code))
    if code:
        raise ValueError(error_to_str(code))
    return bytes(ffi.buffer(out))


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    """Decode base64 without padding. Raises ValueError."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
