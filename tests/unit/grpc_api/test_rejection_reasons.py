"""The rejection reasons of the domain and those of the protos are the same."""

from identity_service.domain.tokens import RejectionReason
from identityapi.v1 import identity_service_pb2 as pb


def test_every_rejection_reason_is_in_the_proto_and_the_other_way_round() -> None:
    reasons = {f"REJECTION_REASON_{reason.value}" for reason in RejectionReason}

    assert reasons == {*pb.RejectionReason.keys()} - {"REJECTION_REASON_UNSPECIFIED"}
