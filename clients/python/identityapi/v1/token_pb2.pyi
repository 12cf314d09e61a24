import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TokenEncryption(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOKEN_ENCRYPTION_UNSPECIFIED: _ClassVar[TokenEncryption]
    TOKEN_ENCRYPTION_NONE: _ClassVar[TokenEncryption]
    TOKEN_ENCRYPTION_SERVICE: _ClassVar[TokenEncryption]
    TOKEN_ENCRYPTION_AUDIENCE: _ClassVar[TokenEncryption]
TOKEN_ENCRYPTION_UNSPECIFIED: TokenEncryption
TOKEN_ENCRYPTION_NONE: TokenEncryption
TOKEN_ENCRYPTION_SERVICE: TokenEncryption
TOKEN_ENCRYPTION_AUDIENCE: TokenEncryption

class Credential(_message.Message):
    __slots__ = ("client_secret", "password", "client_assertion", "client_certificate", "federated_token")
    CLIENT_SECRET_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ASSERTION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    FEDERATED_TOKEN_FIELD_NUMBER: _ClassVar[int]
    client_secret: ClientSecret
    password: Password
    client_assertion: ClientAssertion
    client_certificate: ClientCertificate
    federated_token: FederatedToken
    def __init__(self, client_secret: _Optional[_Union[ClientSecret, _Mapping]] = ..., password: _Optional[_Union[Password, _Mapping]] = ..., client_assertion: _Optional[_Union[ClientAssertion, _Mapping]] = ..., client_certificate: _Optional[_Union[ClientCertificate, _Mapping]] = ..., federated_token: _Optional[_Union[FederatedToken, _Mapping]] = ...) -> None: ...

class ClientSecret(_message.Message):
    __slots__ = ("client_id", "client_secret")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_SECRET_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    client_secret: str
    def __init__(self, client_id: _Optional[str] = ..., client_secret: _Optional[str] = ...) -> None: ...

class Password(_message.Message):
    __slots__ = ("username", "password", "client_id", "client_secret")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_SECRET_FIELD_NUMBER: _ClassVar[int]
    username: str
    password: str
    client_id: str
    client_secret: str
    def __init__(self, username: _Optional[str] = ..., password: _Optional[str] = ..., client_id: _Optional[str] = ..., client_secret: _Optional[str] = ...) -> None: ...

class ClientAssertion(_message.Message):
    __slots__ = ("jwt",)
    JWT_FIELD_NUMBER: _ClassVar[int]
    jwt: str
    def __init__(self, jwt: _Optional[str] = ...) -> None: ...

class ClientCertificate(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FederatedToken(_message.Message):
    __slots__ = ("jwt",)
    JWT_FIELD_NUMBER: _ClassVar[int]
    jwt: str
    def __init__(self, jwt: _Optional[str] = ...) -> None: ...

class TokenSet(_message.Message):
    __slots__ = ("access_token", "token_type", "expire_time", "refresh_token", "refresh_expire_time", "audiences", "scopes", "token_id", "session_id")
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TYPE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    access_token: str
    token_type: str
    expire_time: _timestamp_pb2.Timestamp
    refresh_token: str
    refresh_expire_time: _timestamp_pb2.Timestamp
    audiences: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    token_id: str
    session_id: str
    def __init__(self, access_token: _Optional[str] = ..., token_type: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., refresh_token: _Optional[str] = ..., refresh_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., audiences: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[str]] = ..., token_id: _Optional[str] = ..., session_id: _Optional[str] = ...) -> None: ...

class Actor(_message.Message):
    __slots__ = ("subject", "client_id")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    subject: str
    client_id: str
    def __init__(self, subject: _Optional[str] = ..., client_id: _Optional[str] = ...) -> None: ...

class VerifiedToken(_message.Message):
    __slots__ = ("issuer", "subject", "audiences", "client_id", "scopes", "token_id", "session_id", "issue_time", "expire_time", "auth_time", "actors", "claims", "certificate_sha256", "may_act", "dpop_key_sha256")
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ISSUE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    AUTH_TIME_FIELD_NUMBER: _ClassVar[int]
    ACTORS_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    MAY_ACT_FIELD_NUMBER: _ClassVar[int]
    DPOP_KEY_SHA256_FIELD_NUMBER: _ClassVar[int]
    issuer: str
    subject: str
    audiences: _containers.RepeatedScalarFieldContainer[str]
    client_id: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    token_id: str
    session_id: str
    issue_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    auth_time: _timestamp_pb2.Timestamp
    actors: _containers.RepeatedCompositeFieldContainer[Actor]
    claims: _struct_pb2.Struct
    certificate_sha256: bytes
    may_act: Actor
    dpop_key_sha256: bytes
    def __init__(self, issuer: _Optional[str] = ..., subject: _Optional[str] = ..., audiences: _Optional[_Iterable[str]] = ..., client_id: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., token_id: _Optional[str] = ..., session_id: _Optional[str] = ..., issue_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., auth_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., actors: _Optional[_Iterable[_Union[Actor, _Mapping]]] = ..., claims: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., certificate_sha256: _Optional[bytes] = ..., may_act: _Optional[_Union[Actor, _Mapping]] = ..., dpop_key_sha256: _Optional[bytes] = ...) -> None: ...
