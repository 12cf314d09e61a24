"""Parses the errors of refused calls. The module asserts nothing."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from tests.rpc.world import bearer as bearer


@dataclass(frozen=True)
class Refused:
    """The status and the details of a call that was refused."""

    code: str
    reason: str = ""
    rejection: str = ""
    named: str = field(default="", compare=False)
    retry: bool = field(default=False, compare=False)
    message: str = field(default="", compare=False)


def refusal(call: Callable[..., object], *arguments: object) -> Refused:
    """Return how a call is refused; fails the test if it is not."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return unpacked(caught.value)


def unpacked(error: grpc.RpcError) -> Refused:
    trailing: Any = dict(error.trailing_metadata() or ())  # type: ignore[arg-type]
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    found = [
        (each.Unpack(info), each.Unpack(retry))
        for each in status_pb2.Status.FromString(trailing.get("grpc-status-details-bin", b"")).details
    ]
    assert info.domain in ("", "identityapi.v1")
    return Refused(
        error.code().name,
        info.reason,
        info.metadata.get("rejection_reason", ""),
        named=info.metadata.get("token_id_sha256", ""),
        retry=any(is_retry for _, is_retry in found),
        message=error.details() or "",
    )


def sha256_of(token_id: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(token_id.encode()).digest()).rstrip(b"=").decode()
