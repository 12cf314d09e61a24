"""The audience and scopes that methods require, read from compiled protos."""

from pathlib import Path
from typing import Final

import pytest

from identity_service.domain.errors import ConfigurationError
from identity_service.grpc_api.ext_authz.descriptors import read_requirements
from identity_service.grpc_api.ext_authz.policy import Requirement
from identityapi.v1.access_pb2 import Access
from tests.method_options import write_descriptors

GET: Final = "/shop.v1.Orders/Get"


def test_a_method_requires_what_its_option_names(tmp_path: Path) -> None:
    access = Access(audience="api", scopes=["read", "write"])
    path = write_descriptors(tmp_path / "shop", Get=access, Hours=Access(public=True))

    assert read_requirements(path) == {
        GET: Requirement(audience="api", scopes=("read", "write")),
        "/shop.v1.Orders/Hours": Requirement(public=True),
    }


def test_a_method_without_option_or_audience_is_absent(tmp_path: Path) -> None:
    path = write_descriptors(
        tmp_path / "shop", Get=Access(public=True), Pay=None, List=Access(scopes=["read"])
    )

    assert read_requirements(path).keys() == {GET}


def test_no_file_requires_nothing() -> None:
    assert read_requirements(None) == {}


@pytest.mark.parametrize(
    ("access", "named"),
    [
        (Access(public=True, audience="api"), f"{GET} in .*: public must"),
        (Access(public=True, scopes=["read"]), f"{GET} in .*: public must"),
        (Access(audience="a b"), f"{GET} in .*: audience must"),
        (Access(audience="api", scopes=["a b"]), f"{GET} in .*: scopes must"),
        (Access(audience="api", scopes=["read"] * 101), f"{GET} in .*: scopes must"),
        (None, "no method in .* has the option"),
    ],
)
def test_an_option_that_is_not_acceptable_is_named(tmp_path: Path, access: Access | None, named: str) -> None:
    path = write_descriptors(tmp_path / "shop", Get=access)

    with pytest.raises(ConfigurationError, match=f"ext_authz_descriptors: {named}"):
        read_requirements(path)


def test_a_method_that_is_declared_twice_must_have_the_same_option(tmp_path: Path) -> None:
    narrow = write_descriptors(tmp_path / "narrow", Get=Access(audience="api")).read_bytes()
    public = write_descriptors(tmp_path / "public", Get=Access(public=True)).read_bytes()
    both = tmp_path / "both"

    both.write_bytes(narrow + narrow)
    assert read_requirements(both) == {GET: Requirement(audience="api")}

    both.write_bytes(narrow + public)
    with pytest.raises(ConfigurationError, match=f"declares {GET} twice"):
        read_requirements(both)


def test_a_file_that_holds_no_descriptors_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shop.proto"
    with pytest.raises(ConfigurationError, match=r"ext_authz_descriptors: cannot read .*shop\.proto"):
        read_requirements(path)

    path.write_text('syntax = "proto3";')
    with pytest.raises(ConfigurationError, match=r"ext_authz_descriptors: .*shop\.proto is not a File"):
        read_requirements(path)
