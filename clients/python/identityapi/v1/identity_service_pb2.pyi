import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from identityapi.v1 import token_pb2 as _token_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RejectionReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REJECTION_REASON_UNSPECIFIED: _ClassVar[RejectionReason]
    REJECTION_REASON_MALFORMED: _ClassVar[RejectionReason]
    REJECTION_REASON_ALGORITHM_NOT_ALLOWED: _ClassVar[RejectionReason]
    REJECTION_REASON_UNKNOWN_KEY: _ClassVar[RejectionReason]
    REJECTION_REASON_BAD_SIGNATURE: _ClassVar[RejectionReason]
    REJECTION_REASON_WRONG_TYPE: _ClassVar[RejectionReason]
    REJECTION_REASON_UNTRUSTED_ISSUER: _ClassVar[RejectionReason]
    REJECTION_REASON_EXPIRED: _ClassVar[RejectionReason]
    REJECTION_REASON_NOT_YET_VALID: _ClassVar[RejectionReason]
    REJECTION_REASON_WRONG_AUDIENCE: _ClassVar[RejectionReason]
    REJECTION_REASON_INSUFFICIENT_SCOPE: _ClassVar[RejectionReason]
    REJECTION_REASON_REVOKED: _ClassVar[RejectionReason]
    REJECTION_REASON_BINDING_MISMATCH: _ClassVar[RejectionReason]
    REJECTION_REASON_UNDECRYPTABLE: _ClassVar[RejectionReason]
REJECTION_REASON_UNSPECIFIED: RejectionReason
REJECTION_REASON_MALFORMED: RejectionReason
REJECTION_REASON_ALGORITHM_NOT_ALLOWED: RejectionReason
REJECTION_REASON_UNKNOWN_KEY: RejectionReason
REJECTION_REASON_BAD_SIGNATURE: RejectionReason
REJECTION_REASON_WRONG_TYPE: RejectionReason
REJECTION_REASON_UNTRUSTED_ISSUER: RejectionReason
REJECTION_REASON_EXPIRED: RejectionReason
REJECTION_REASON_NOT_YET_VALID: RejectionReason
REJECTION_REASON_WRONG_AUDIENCE: RejectionReason
REJECTION_REASON_INSUFFICIENT_SCOPE: RejectionReason
REJECTION_REASON_REVOKED: RejectionReason
REJECTION_REASON_BINDING_MISMATCH: RejectionReason
REJECTION_REASON_UNDECRYPTABLE: RejectionReason

class IssueRequest(_message.Message):
    __slots__ = ("credential", "audiences", "scopes", "lifetime", "claims", "encryption", "device", "subject_token", "actor_token", "may_act_client_id")
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACTOR_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MAY_ACT_CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    credential: _token_pb2.Credential
    audiences: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    lifetime: _duration_pb2.Duration
    claims: _struct_pb2.Struct
    encryption: _token_pb2.TokenEncryption
    device: str
    subject_token: str
    actor_token: str
    may_act_client_id: str
    def __init__(self, credential: _Optional[_Union[_token_pb2.Credential, _Mapping]] = ..., audiences: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[str]] = ..., lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., claims: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., encryption: _Optional[_Union[_token_pb2.TokenEncryption, str]] = ..., device: _Optional[str] = ..., subject_token: _Optional[str] = ..., actor_token: _Optional[str] = ..., may_act_client_id: _Optional[str] = ...) -> None: ...

class IssueResponse(_message.Message):
    __slots__ = ("token_set",)
    TOKEN_SET_FIELD_NUMBER: _ClassVar[int]
    token_set: _token_pb2.TokenSet
    def __init__(self, token_set: _Optional[_Union[_token_pb2.TokenSet, _Mapping]] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("token", "audiences", "any_audience", "required_scopes", "at_least_revision", "strong", "certificate_sha256", "dpop_key_sha256")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    ANY_AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_SCOPES_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_REVISION_FIELD_NUMBER: _ClassVar[int]
    STRONG_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    DPOP_KEY_SHA256_FIELD_NUMBER: _ClassVar[int]
    token: str
    audiences: _containers.RepeatedScalarFieldContainer[str]
    any_audience: bool
    required_scopes: _containers.RepeatedScalarFieldContainer[str]
    at_least_revision: str
    strong: bool
    certificate_sha256: bytes
    dpop_key_sha256: bytes
    def __init__(self, token: _Optional[str] = ..., audiences: _Optional[_Iterable[str]] = ..., any_audience: bool = ..., required_scopes: _Optional[_Iterable[str]] = ..., at_least_revision: _Optional[str] = ..., strong: bool = ..., certificate_sha256: _Optional[bytes] = ..., dpop_key_sha256: _Optional[bytes] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("reason", "detail")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    reason: RejectionReason
    detail: str
    def __init__(self, reason: _Optional[_Union[RejectionReason, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("verified", "rejected", "revision")
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    verified: _token_pb2.VerifiedToken
    rejected: Rejection
    revision: str
    def __init__(self, verified: _Optional[_Union[_token_pb2.VerifiedToken, _Mapping]] = ..., rejected: _Optional[_Union[Rejection, _Mapping]] = ..., revision: _Optional[str] = ...) -> None: ...

class VerifyBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[VerifyRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[VerifyRequest, _Mapping]]] = ...) -> None: ...

class VerifyBatchResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[VerifyResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[VerifyResponse, _Mapping]]] = ...) -> None: ...

class RefreshRequest(_message.Message):
    __slots__ = ("refresh_token", "client_credential", "scopes", "audiences")
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    refresh_token: str
    client_credential: _token_pb2.Credential
    scopes: _containers.RepeatedScalarFieldContainer[str]
    audiences: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, refresh_token: _Optional[str] = ..., client_credential: _Optional[_Union[_token_pb2.Credential, _Mapping]] = ..., scopes: _Optional[_Iterable[str]] = ..., audiences: _Optional[_Iterable[str]] = ...) -> None: ...

class RefreshResponse(_message.Message):
    __slots__ = ("token_set",)
    TOKEN_SET_FIELD_NUMBER: _ClassVar[int]
    token_set: _token_pb2.TokenSet
    def __init__(self, token_set: _Optional[_Union[_token_pb2.TokenSet, _Mapping]] = ...) -> None: ...

class RevokeRequest(_message.Message):
    __slots__ = ("token", "token_id", "session_id", "subject", "client_id", "everything", "reason", "request_id")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVERYTHING_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    token: str
    token_id: str
    session_id: str
    subject: str
    client_id: str
    everything: bool
    reason: str
    request_id: str
    def __init__(self, token: _Optional[str] = ..., token_id: _Optional[str] = ..., session_id: _Optional[str] = ..., subject: _Optional[str] = ..., client_id: _Optional[str] = ..., everything: bool = ..., reason: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RevokeResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: str
    def __init__(self, revision: _Optional[str] = ...) -> None: ...
