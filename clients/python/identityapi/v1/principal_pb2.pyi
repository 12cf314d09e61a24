import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Grant(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRANT_UNSPECIFIED: _ClassVar[Grant]
    GRANT_CLIENT_CREDENTIALS: _ClassVar[Grant]
    GRANT_PASSWORD: _ClassVar[Grant]
    GRANT_REFRESH_TOKEN: _ClassVar[Grant]
    GRANT_TOKEN_EXCHANGE: _ClassVar[Grant]

class OnReuse(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_REUSE_UNSPECIFIED: _ClassVar[OnReuse]
    ON_REUSE_END_SESSION: _ClassVar[OnReuse]
    ON_REUSE_REFUSE: _ClassVar[OnReuse]
GRANT_UNSPECIFIED: Grant
GRANT_CLIENT_CREDENTIALS: Grant
GRANT_PASSWORD: Grant
GRANT_REFRESH_TOKEN: Grant
GRANT_TOKEN_EXCHANGE: Grant
ON_REUSE_UNSPECIFIED: OnReuse
ON_REUSE_END_SESSION: OnReuse
ON_REUSE_REFUSE: OnReuse

class Client(_message.Message):
    __slots__ = ("client_id", "display_name", "grants", "audiences", "scopes", "max_lifetime", "on_reuse", "disabled", "certificates", "public_keys", "require_binding", "exchange_audiences", "secrets", "create_time", "etag", "encryption_key")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    MAX_LIFETIME_FIELD_NUMBER: _ClassVar[int]
    ON_REUSE_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEYS_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_BINDING_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTION_KEY_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    display_name: str
    grants: _containers.RepeatedScalarFieldContainer[Grant]
    audiences: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    max_lifetime: _duration_pb2.Duration
    on_reuse: OnReuse
    disabled: bool
    certificates: _containers.RepeatedScalarFieldContainer[str]
    public_keys: _containers.RepeatedScalarFieldContainer[str]
    require_binding: bool
    exchange_audiences: _containers.RepeatedScalarFieldContainer[str]
    secrets: _containers.RepeatedCompositeFieldContainer[SecretInfo]
    create_time: _timestamp_pb2.Timestamp
    etag: str
    encryption_key: str
    def __init__(self, client_id: _Optional[str] = ..., display_name: _Optional[str] = ..., grants: _Optional[_Iterable[_Union[Grant, str]]] = ..., audiences: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[str]] = ..., max_lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., on_reuse: _Optional[_Union[OnReuse, str]] = ..., disabled: bool = ..., certificates: _Optional[_Iterable[str]] = ..., public_keys: _Optional[_Iterable[str]] = ..., require_binding: bool = ..., exchange_audiences: _Optional[_Iterable[str]] = ..., secrets: _Optional[_Iterable[_Union[SecretInfo, _Mapping]]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., encryption_key: _Optional[str] = ...) -> None: ...

class SecretInfo(_message.Message):
    __slots__ = ("create_time", "expire_time")
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class User(_message.Message):
    __slots__ = ("user_id", "username", "display_name", "audiences", "scopes", "disabled", "has_password", "create_time", "etag")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    HAS_PASSWORD_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    username: str
    display_name: str
    audiences: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    disabled: bool
    has_password: bool
    create_time: _timestamp_pb2.Timestamp
    etag: str
    def __init__(self, user_id: _Optional[str] = ..., username: _Optional[str] = ..., display_name: _Optional[str] = ..., audiences: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[str]] = ..., disabled: bool = ..., has_password: bool = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("session_id", "subject", "client_id", "device", "peer", "auth_time", "refresh_time", "expire_time", "audiences", "scopes", "current")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    AUTH_TIME_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    subject: str
    client_id: str
    device: str
    peer: str
    auth_time: _timestamp_pb2.Timestamp
    refresh_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    audiences: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    current: bool
    def __init__(self, session_id: _Optional[str] = ..., subject: _Optional[str] = ..., client_id: _Optional[str] = ..., device: _Optional[str] = ..., peer: _Optional[str] = ..., auth_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., refresh_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., audiences: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[str]] = ..., current: bool = ...) -> None: ...

class TrustedIssuer(_message.Message):
    __slots__ = ("issuer", "jwks_uri", "jwks_file", "jwks", "audiences", "algorithms", "rules", "single_use", "max_age", "create_time", "etag")
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    JWKS_URI_FIELD_NUMBER: _ClassVar[int]
    JWKS_FILE_FIELD_NUMBER: _ClassVar[int]
    JWKS_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    ALGORITHMS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    SINGLE_USE_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    issuer: str
    jwks_uri: str
    jwks_file: str
    jwks: str
    audiences: _containers.RepeatedScalarFieldContainer[str]
    algorithms: _containers.RepeatedScalarFieldContainer[str]
    rules: _containers.RepeatedCompositeFieldContainer[TrustRule]
    single_use: bool
    max_age: _duration_pb2.Duration
    create_time: _timestamp_pb2.Timestamp
    etag: str
    def __init__(self, issuer: _Optional[str] = ..., jwks_uri: _Optional[str] = ..., jwks_file: _Optional[str] = ..., jwks: _Optional[str] = ..., audiences: _Optional[_Iterable[str]] = ..., algorithms: _Optional[_Iterable[str]] = ..., rules: _Optional[_Iterable[_Union[TrustRule, _Mapping]]] = ..., single_use: bool = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class TrustRule(_message.Message):
    __slots__ = ("claims", "client_id", "per_subject")
    class ClaimsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    PER_SUBJECT_FIELD_NUMBER: _ClassVar[int]
    claims: _containers.ScalarMap[str, str]
    client_id: str
    per_subject: bool
    def __init__(self, claims: _Optional[_Mapping[str, str]] = ..., client_id: _Optional[str] = ..., per_subject: bool = ...) -> None: ...
