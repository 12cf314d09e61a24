"""Any value that a store can hold goes into a copy and comes out of it as it was."""

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity_service.domain.audit import AuditType, StoredEvent
from identity_service.domain.copying import (
    CopiedEvent,
    CopiedGeneration,
    CopiedItem,
    CopiedMarks,
    CopiedRecord,
    CopiedSession,
    CopiedUse,
)
from identity_service.domain.ids import (
    EVERYONE,
    KeyId,
    Link,
    PrincipalId,
    SessionId,
    TokenId,
    key_principal,
    new_epoch,
)
from identity_service.domain.log import Generation, Marks, SessionEnded, TokenDenied
from identity_service.domain.store import Store
from tests.conformance import samples
from tests.conformance.copies import Copied, exported

few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
START = datetime(2100, 1, 1, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text('abcXYZ019._:@/-\N{SNOWMAN}"\\*?[', min_size=1, max_size=20)
times = st.integers(1, 30 * 86_400_000).map(lambda ms: START + timedelta(milliseconds=ms))
durations = st.integers(0, 10**9).map(lambda ms: timedelta(milliseconds=ms))
links = st.text("abcXYZ019-_", min_size=1, max_size=11).map(Link)
principals = st.one_of(
    st.just(EVERYONE), names.map(PrincipalId), names.map(lambda name: key_principal(KeyId(name)))
)
records = st.one_of(
    st.builds(
        lambda n, t: samples.a_client(n, display_name=t, certificates=frozenset({f"dns:{n}"})), names, texts
    ),
    st.builds(lambda n, t: samples.a_user(f"u_{n}", f"{n} {t}"), names, texts),
    st.builds(lambda n, t: samples.a_key(n, sealed=t), names, texts),
    st.builds(lambda n: samples.an_issuer(f"https://{n}"), names),
)
items: st.SearchStrategy[CopiedItem] = st.one_of(
    st.builds(
        CopiedMarks,
        marks=st.builds(
            Marks,
            lifetime=durations,
            session=durations,
            leeway=durations,
            time=st.none() | times,
            latest=st.none() | times,
        ),
        retention=durations,
    ),
    st.builds(
        CopiedGeneration,
        principal=principals,
        generation=st.builds(Generation, number=st.integers(1, 2**53 - 1), link=links),
    ),
    st.builds(TokenDenied, token_id=names.map(TokenId), deny_until=times),
    st.builds(SessionEnded, session_id=names.map(SessionId), deny_until=times, end_until=times),
    st.builds(CopiedRecord, record=records),
    st.builds(CopiedUse, key=names, until=times),
    st.builds(
        lambda name, subject, device, expire: CopiedSession(
            session=samples.a_session(
                f"s-{name}", subject=PrincipalId(subject), device=device, expire_time=expire
            )
        ),
        names,
        names,
        texts,
        times,
    ),
    st.builds(
        lambda target, time, type_: CopiedEvent(
            event=StoredEvent(event_id="1", time=time, event=samples.an_event(target, type=type_))
        ),
        texts,
        times,
        st.sampled_from(AuditType),
    ),
)


@few
@given(found=st.lists(items, max_size=30, unique_by=lambda item: repr(_name_of(item))))
def test_any_items_come_back_as_they_went_in(store: Store, found: list[CopiedItem]) -> None:
    epoch = new_epoch()
    store.copying.write_copy(iter(found), epoch, replace=True)
    store.log.adopt(epoch)
    store.log.rebuild()

    copied, wanted = exported(store), Copied(found)

    ended = {session_id for session_id in wanted.ends if session_id in wanted.sessions}
    for session_id in ended:
        del wanted.sessions[session_id]
    assert copied.state == wanted.state
    assert store.log.head().whole


def _name_of(item: CopiedItem) -> object:
    """Return the name of an item. Folding two items with the same name is tested separately."""
    match item:
        case CopiedGeneration():
            return "generation", item.principal
        case CopiedRecord():
            return "record", item.record.id.casefold()
        case CopiedMarks():
            return "marks"
        case TokenDenied():
            return "denial", item.token_id
        case SessionEnded():
            return "end", item.session_id
        case CopiedUse():
            return "use", item.key
        case CopiedSession():
            return "session", item.session.session_id
        case _:
            return item
