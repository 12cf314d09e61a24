"""The policy of a gRPC server: what each method requires, and policies that are refused when made."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from hypothesis import given
from hypothesis import strategies as st

from identity_client.policy import ALLOW_FOR, ASK, REFUSE, Policy, PolicyError, Requirement, public, requires
from identityapi.v1 import access_pb2

OPTION: Any = access_pb2.access
READ = Requirement(audiences=("shop",), scopes=("read",), on_stale=REFUSE)
ANY_TOKEN = Requirement(audiences=("shop",), on_stale=REFUSE)
NAMES = st.sampled_from(["A", "B", "C"])
SERVICES = st.sampled_from(["a.S", "a.T", "a.b.S", "S"])
PATTERNS = st.builds("/{}/{}".format, SERVICES, NAMES | st.just("*"))


def described(package: str = "shop.v1", **methods: access_pb2.Access | None) -> FileDescriptor:
    """Return a proto file with a service `Orders` whose methods have these options."""
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package=package, syntax="proto3")
    file.dependency.append(access_pb2.DESCRIPTOR.name)
    file.message_type.add(name="Empty")
    service = file.service.add(name="Orders")
    for name, access in methods.items():
        type_ = f".{package}.Empty"
        method = service.method.add(name=name, input_type=type_, output_type=type_)
        if access is not None:
            method.options.Extensions[OPTION].CopyFrom(access)
    pool = descriptor_pool.DescriptorPool()
    for each in (descriptor_pb2.DESCRIPTOR, access_pb2.DESCRIPTOR):
        pool.AddSerializedFile(each.serialized_pb)
    pool.Add(file)
    return pool.FindFileByName("shop.proto")


def test_a_method_needs_what_its_entry_says() -> None:
    policy = Policy("shop", {"/shop.v1.Orders/Get": ["read"], "/shop.v1.Orders/Hours": public()})

    assert policy.requirement("/shop.v1.Orders/Get") == READ
    assert policy.requirement("/shop.v1.Orders/Hours") == Requirement(public=True)


@pytest.mark.parametrize(
    "method",
    ["/shop.v1.Orders/Delete", "/shop.v1.Orders2/Get", "/shop.v1.Orders/Get/", "shop.v1.Orders/Get", "/", ""],
)
def test_any_other_method_needs_what_nothing_grants(method: str) -> None:
    assert Policy("shop", {"/shop.v1.Orders/Get": ["read"]}).requirement(method) is None


@given(st.dictionaries(PATTERNS, st.lists(st.sampled_from(["read", "write"]), unique=True)), SERVICES, NAMES)
def test_the_entry_of_a_method_replaces_the_one_of_its_service(
    entries: dict[str, list[str]], service: str, name: str
) -> None:
    found = Policy("shop", entries).requirement(f"/{service}/{name}")

    scopes = entries.get(f"/{service}/{name}", entries.get(f"/{service}/*"))
    assert (None if found is None else list(found.scopes)) == scopes


@given(st.text(alphabet="/*.Ab1_ é\n", max_size=12))
def test_a_key_that_is_no_method_is_refused(text: str) -> None:
    service, _, name = text.removeprefix("/").partition("/")
    identifiers = [*service.split("."), *([] if name == "*" else [name])]
    well_formed = text.startswith("/") and all(each.isidentifier() and each.isascii() for each in identifiers)
    if well_formed:
        assert Policy("shop", {text: []}).requirement(text) == ANY_TOKEN
    else:
        with pytest.raises(PolicyError, match="is not a method"):
            Policy("shop", {text: []})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: {"/a.S/M": "read"}, r"write \['read'\]"),
        (lambda: {"/a.S/M": ["a b"]}, "RFC 6749"),
        (lambda: {"/a.S/M": ["s"] * 101}, "at most 100"),
        (lambda: {"/a.S/M": requires([], audience="")}, "an audience must have"),
        (lambda: {"/a.S/M": Requirement(public=True, scopes=("read",))}, "a public method needs no token"),
        (lambda: {"/a.S/M": requires([], on_stale=ALLOW_FOR(timedelta(0)))}, "must be positive"),
    ],
)
def test_an_entry_that_is_not_acceptable_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        Policy("shop", make())


def test_an_entry_may_name_another_audience_and_what_happens_while_stale() -> None:
    patient = ALLOW_FOR(timedelta(minutes=1))
    policy = Policy(
        "shop",
        {"/a.S/*": requires(["read"], audience="other", on_stale=patient), "/a.S/M": []},
        on_stale=ASK,
    )

    assert policy.requirement("/a.S/N") == Requirement(
        audiences=("other",), scopes=("read",), on_stale=patient
    )
    assert policy.requirement("/a.S/M") == Requirement(audiences=("shop",), on_stale=ASK)


def test_health_is_public_unless_an_entry_names_it_and_reflection_only_if_said() -> None:
    health, reflection = "/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/Info"

    assert Policy("shop", {}).requirement(health) == public()
    assert Policy("shop", {"/grpc.health.v1.Health/*": []}).requirement(health) == ANY_TOKEN
    assert Policy("shop", {}).requirement(reflection) is None
    assert Policy("shop", {}, reflection=True).requirement(reflection) == public()


def test_a_policy_for_given_services_names_each_method_without_an_entry() -> None:
    services = [described(Get=None, List=None, Delete=None)]

    with pytest.raises(PolicyError, match=r"no entry for /shop\.v1\.Orders/List, /shop\.v1\.Orders/Delete"):
        Policy("shop", {"/shop.v1.Orders/Get": []}, services=services)
    Policy("shop", {"/shop.v1.Orders/*": []}, services=services[0].services_by_name.values())


def test_a_policy_for_given_services_has_no_entry_that_matches_none_of_their_methods() -> None:
    services = [described(Get=None)]

    with pytest.raises(PolicyError, match=r"matches /shop\.v1\.Orders/Gte, /shop\.v2\.Orders/\*"):
        Policy(
            "shop",
            {"/shop.v1.Orders/*": [], "/shop.v1.Orders/Gte": [], "/shop.v2.Orders/*": []},
            services=services,
        )
    with pytest.raises(PolicyError, match="hold no method"):
        Policy("shop", {"/shop.v1.Orders/*": []}, services=[access_pb2.DESCRIPTOR])
    Policy("shop", {"/shop.v1.Orders/*": [], "/grpc.health.v1.Health/*": []}, services=services)


def test_a_policy_can_come_from_the_options_in_a_proto() -> None:
    access = access_pb2.Access
    services = described(
        Get=access(audience="orders", scopes=["read"]), Hours=access(public=True), List=access()
    )

    policy = Policy.from_proto(services, audience="shop")

    assert policy.requirement("/shop.v1.Orders/Get") == Requirement(
        audiences=("orders",), scopes=("read",), on_stale=REFUSE
    )
    assert policy.requirement("/shop.v1.Orders/Hours") == public()
    assert policy.requirement("/shop.v1.Orders/List") == ANY_TOKEN


@pytest.mark.parametrize("access", [None, access_pb2.Access(), access_pb2.Access(scopes=["read"])])
def test_a_method_in_a_proto_without_the_option_or_an_audience_is_named(
    access: access_pb2.Access | None,
) -> None:
    with pytest.raises(PolicyError, match=r"/shop\.v1\.Orders/List"):
        Policy.from_proto(described(Get=access_pb2.Access(public=True), List=access))
