"""The rules that decide whether a session is live, and what its refresh tokens may still grant.

Refresh and Introspect apply the same rules. Reads and writes no store.
"""

from identity_service.domain.credential_errors import SessionEndedError
from identity_service.domain.grants import user_entitlement
from identity_service.domain.principals import Client, User
from identity_service.domain.revocations import Revocations, first_raised, is_ahead, newest
from identity_service.domain.sessions import Session, SessionState


def require_live(state: SessionState, revocations: Revocations) -> tuple[Client, User]:
    """Return the session's client and user; raise SessionEndedError if the session is no longer live.

    The store and the replica (`revocations`) are both asked, since either may know a revocation that the
    other lacks.
    """
    session, principals = state.session, state.session.principals
    known = newest(state.generations, revocations.current(*principals))
    over = (
        state.ended
        or session.session_id in revocations.denylist
        or state.time >= session.expire_time
        or first_raised(known, principals, session.generations) is not None
        # The session is of a history of the store that was lost, and so are its revocations.
        or is_ahead(known, session.generations)
    )
    client, user = state.client, state.user
    if over or client is None or client.disabled or user is None or user.disabled:
        raise SessionEndedError
    return client, user


def still_granted(session: Session, client: Client, user: User) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the audiences and scopes of the session that the user and client are still allowed.

    Raises SessionEndedError if no audience is left.
    """
    allowed = user_entitlement(client, user)
    audiences = tuple(a for a in session.audiences if a in allowed.audiences)
    scopes = tuple(s for s in session.scopes if s in allowed.scopes)
    if not audiences:
        raise SessionEndedError
    return audiences, scopes
