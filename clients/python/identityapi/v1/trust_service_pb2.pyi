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

class KeyPurpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEY_PURPOSE_UNSPECIFIED: _ClassVar[KeyPurpose]
    KEY_PURPOSE_SIGN: _ClassVar[KeyPurpose]
    KEY_PURPOSE_REFRESH: _ClassVar[KeyPurpose]
    KEY_PURPOSE_ENCRYPT: _ClassVar[KeyPurpose]

class KeyState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEY_STATE_UNSPECIFIED: _ClassVar[KeyState]
    KEY_STATE_PENDING: _ClassVar[KeyState]
    KEY_STATE_SIGNING: _ClassVar[KeyState]
    KEY_STATE_VERIFYING: _ClassVar[KeyState]
    KEY_STATE_REVOKED: _ClassVar[KeyState]
KEY_PURPOSE_UNSPECIFIED: KeyPurpose
KEY_PURPOSE_SIGN: KeyPurpose
KEY_PURPOSE_REFRESH: KeyPurpose
KEY_PURPOSE_ENCRYPT: KeyPurpose
KEY_STATE_UNSPECIFIED: KeyState
KEY_STATE_PENDING: KeyState
KEY_STATE_SIGNING: KeyState
KEY_STATE_VERIFYING: KeyState
KEY_STATE_REVOKED: KeyState

class GetKeysRequest(_message.Message):
    __slots__ = ("etag",)
    ETAG_FIELD_NUMBER: _ClassVar[int]
    etag: str
    def __init__(self, etag: _Optional[str] = ...) -> None: ...

class GetKeysResponse(_message.Message):
    __slots__ = ("key_set", "revision")
    KEY_SET_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    key_set: KeySet
    revision: str
    def __init__(self, key_set: _Optional[_Union[KeySet, _Mapping]] = ..., revision: _Optional[str] = ...) -> None: ...

class KeySet(_message.Message):
    __slots__ = ("jwks", "keys", "max_age", "etag")
    JWKS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    jwks: str
    keys: _containers.RepeatedCompositeFieldContainer[PublishedKey]
    max_age: _duration_pb2.Duration
    etag: str
    def __init__(self, jwks: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[PublishedKey, _Mapping]]] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class PublishedKey(_message.Message):
    __slots__ = ("key_id", "algorithm", "state", "jwk", "activate_time", "purpose", "create_time", "expire_time")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    JWK_FIELD_NUMBER: _ClassVar[int]
    ACTIVATE_TIME_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    algorithm: str
    state: KeyState
    jwk: str
    activate_time: _timestamp_pb2.Timestamp
    purpose: KeyPurpose
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, key_id: _Optional[str] = ..., algorithm: _Optional[str] = ..., state: _Optional[_Union[KeyState, str]] = ..., jwk: _Optional[str] = ..., activate_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., purpose: _Optional[_Union[KeyPurpose, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("resume_after",)
    RESUME_AFTER_FIELD_NUMBER: _ClassVar[int]
    resume_after: str
    def __init__(self, resume_after: _Optional[str] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("revocations", "key_set", "revision", "restarted", "time", "staleness")
    REVOCATIONS_FIELD_NUMBER: _ClassVar[int]
    KEY_SET_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    RESTARTED_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    STALENESS_FIELD_NUMBER: _ClassVar[int]
    revocations: _containers.RepeatedCompositeFieldContainer[Revocation]
    key_set: KeySet
    revision: str
    restarted: bool
    time: _timestamp_pb2.Timestamp
    staleness: _duration_pb2.Duration
    def __init__(self, revocations: _Optional[_Iterable[_Union[Revocation, _Mapping]]] = ..., key_set: _Optional[_Union[KeySet, _Mapping]] = ..., revision: _Optional[str] = ..., restarted: bool = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., staleness: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Revocation(_message.Message):
    __slots__ = ("denied_token", "ended_session", "raised_generation")
    DENIED_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ENDED_SESSION_FIELD_NUMBER: _ClassVar[int]
    RAISED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    denied_token: DeniedToken
    ended_session: EndedSession
    raised_generation: RaisedGeneration
    def __init__(self, denied_token: _Optional[_Union[DeniedToken, _Mapping]] = ..., ended_session: _Optional[_Union[EndedSession, _Mapping]] = ..., raised_generation: _Optional[_Union[RaisedGeneration, _Mapping]] = ...) -> None: ...

class DeniedToken(_message.Message):
    __slots__ = ("token_id", "deny_until")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    DENY_UNTIL_FIELD_NUMBER: _ClassVar[int]
    token_id: str
    deny_until: _timestamp_pb2.Timestamp
    def __init__(self, token_id: _Optional[str] = ..., deny_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EndedSession(_message.Message):
    __slots__ = ("session_id", "deny_until")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    DENY_UNTIL_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    deny_until: _timestamp_pb2.Timestamp
    def __init__(self, session_id: _Optional[str] = ..., deny_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RaisedGeneration(_message.Message):
    __slots__ = ("principal", "number", "link")
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    principal: str
    number: int
    link: str
    def __init__(self, principal: _Optional[str] = ..., number: _Optional[int] = ..., link: _Optional[str] = ...) -> None: ...
