"""The service's own ext_authz messages are encoded to the same bytes as Envoy's (package xds-protos).

Envoy's protos are loaded in another environment, since both declare the same names.
"""

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from identity_service.grpc_api.ext_authz.answers import NO_POLICY, Denial, denied
from identity_service.grpc_api.ext_authz.wire import auth_pb2, core_pb2, http_status_pb2
from tests.patience import PATIENCE

ROOT: Final = Path(__file__).parents[3]
PYTHON: Final = ROOT / ".venv-xds" / "bin" / "python"
REQUEST: Final = auth_pb2.CheckRequest(
    attributes=auth_pb2.AttributeContext(
        source=auth_pb2.AttributeContext.Peer(certificate="c"),
        request=auth_pb2.AttributeContext.Request(
            http=auth_pb2.AttributeContext.HttpRequest(
                headers={"a": "b"},
                path="/p?q",
                body="x",
                raw_body=b"\xff",
                header_map=core_pb2.HeaderMap(
                    headers=[core_pb2.HeaderValue(key="k", value="v", raw_value=b"\x00")]
                ),
            )
        ),
        context_extensions={"audience": "api"},
    )
)
PASSED: Final = auth_pb2.CheckResponse(
    ok_response=auth_pb2.OkHttpResponse(
        headers=[
            core_pb2.HeaderValueOption(
                header=core_pb2.HeaderValue(key="k", value="v"), append={"value": True}
            )
        ],
        headers_to_remove=["r"],
    )
)
REFUSED: Final = denied(Denial(error="invalid_token", description="the token has expired"))
FORBIDDEN: Final = denied(NO_POLICY)
MESSAGES: Final = (REQUEST, PASSED, REFUSED, FORBIDDEN)

_PROGRAM: Final = """
import json, sys
from google.protobuf import json_format
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import attribute_context_pb2, external_auth_pb2
from envoy.type.v3 import http_status_pb2

def fields(messages):
    found = {}
    for message in messages:
        for field in message.fields:
            found[field.full_name] = [field.number, field.type, field.is_repeated]
        found |= fields(message.nested_types)
    return found

modules = (base_pb2, attribute_context_pb2, external_auth_pb2, http_status_pb2)
read = []
for name, data in json.load(sys.stdin):
    message = getattr(external_auth_pb2, name).FromString(bytes.fromhex(data))
    written = json_format.ParseDict(json_format.MessageToDict(message), type(message)())
    read.append([json_format.MessageToDict(message), written.SerializeToString(deterministic=True).hex()])
print(json.dumps({
    "read": read,
    "codes": dict(http_status_pb2.StatusCode.items()),
    "methods": [
        [service.full_name, method.name, method.input_type.full_name, method.output_type.full_name]
        for service in external_auth_pb2.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ],
    "fields": fields(m for module in modules for m in module.DESCRIPTOR.message_types_by_name.values()),
}))
"""


@pytest.fixture(scope="module")
def original() -> dict[str, Any]:
    """Return the descriptors of Envoy's protos, and our messages as Envoy's protos parse and encode them."""
    if not PYTHON.exists():
        pytest.skip("needs xds-protos in .venv-xds: run `make .venv-xds/.installed`")
    asked = [[type(each).__name__, _bytes(each).hex()] for each in MESSAGES]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [PYTHON, "-c", _PROGRAM],
        input=json.dumps(asked),
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    answered: dict[str, Any] = json.loads(run.stdout)
    return answered


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _fields(messages: Iterable[Descriptor]) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for message in messages:
        for field in message.fields:
            found[field.full_name] = [field.number, field.type, field.is_repeated]
        found |= _fields(message.nested_types)
    return found


def test_envoy_reads_every_field_from_our_bytes_and_writes_the_same(original: dict[str, Any]) -> None:
    assert original["read"] == [[json_format.MessageToDict(each), _bytes(each).hex()] for each in MESSAGES]


def test_the_samples_have_every_field_that_the_service_uses() -> None:
    """The comparison of bytes would not cover a field that the samples lack."""
    set_ = set[str]()

    def visit(message: Message) -> None:
        for field, value in message.ListFields():
            set_.add(field.full_name)
            if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                for each in value if field.is_repeated else [value]:
                    visit(each)

    for each in MESSAGES:
        visit(each)

    entries = {name for name in _fields(_messages()) if "Entry." in name}
    assert _fields(_messages()).keys() - entries <= set_


def _messages() -> list[Descriptor]:
    modules = (auth_pb2, core_pb2, http_status_pb2)
    return [m for module in modules for m in module.DESCRIPTOR.message_types_by_name.values()]


def test_every_field_has_the_name_number_and_type_of_envoys_own(original: dict[str, Any]) -> None:
    ours = _fields(_messages())

    assert {name: original["fields"].get(name) for name in ours} == ours


def test_the_method_and_the_codes_are_envoys_own(original: dict[str, Any]) -> None:
    service = auth_pb2.DESCRIPTOR.services_by_name["Authorization"]
    methods = [
        [service.full_name, each.name, each.input_type.full_name, each.output_type.full_name]
        for each in service.methods
    ]

    assert original["methods"] == methods
    assert original["codes"].items() >= dict(http_status_pb2.StatusCode.items()).items()
