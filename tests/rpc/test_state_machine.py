"""The service against its model: issued, refreshed, revoked, restarted or cut off, they agree."""

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from identity_service import logs
from identity_service.bootstrap import Office, Service, open_hasher
from identity_service.domain.errors import StoreUnavailableError
from identity_service.domain.ports import Store
from identity_service.services.admin import Administrator
from identity_service.storage.redis import RedisStore
from identity_service.storage.sqlite import SqliteStore
from identityapi.v1 import identity_service_pb2_grpc as rpc
from tests.redis_server import RedisServer
from tests.rpc.conftest import running, settings_for_tests
from tests.rpc.model import EVERYTHING, Given, Model, Refused, Session, Token
from tests.rpc.test_owed import eventually
from tests.rpc.world import ShiftedClock, World, failure

EXAMPLES: Final = 2 * int(os.environ.get("CRASH_ROUNDS", "20"))
LIFETIME: Final = timedelta(minutes=15)
SESSION: Final = timedelta(days=30)
FIRST_PARTY: Final = "first-party"
REACHES: Final = ("close", "adopt", "wait")
"""What works on a store that is cut off: it only touches this process."""


class Cuttable:
    """A store that can be cut off, as a network would."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.cut = False

    def __getattr__(self, name: str) -> Any:
        if self.cut and name not in REACHES:
            raise StoreUnavailableError("the store is cut off")
        return getattr(self._store, name)


@dataclass(eq=False)
class Chain:
    """A session as its holder sees it: the text of every refresh token it was given."""

    session: Session
    texts: dict[int, str] = field(default_factory=dict)


class Machine(RuleBasedStateMachine):
    """Runs the same steps on the service and on the model."""

    open_store: Callable[[ShiftedClock, Path], Store]
    chains = Bundle("chains")
    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.issued: list[tuple[str, str, Token]] = []
        self.chains_known: list[Chain] = []
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))

    @initialize()
    def start(self) -> None:
        self.world: World = self.stack.enter_context(running(settings_for_tests(), self._open))
        self.user = self.world.new_user()
        self.client = self.world.new_client()
        self.admin = self.world.admin_token()

    def _open(self, clock: ShiftedClock) -> Any:
        self.store = Cuttable(type(self).open_store(clock, self.folder))
        return self.store

    def teardown(self) -> None:
        self.stack.close()

    # What is done

    @precondition(lambda self: not self.store.cut)
    @rule(target=tokens)
    def issue_by_secret(self) -> Token:
        answer = self.world.issue(self.client)
        return self._issued(answer, self.client.id, self.client.id, None)

    @precondition(lambda self: not self.store.cut)
    @rule(target=chains)
    def sign_in(self) -> Chain:
        return self._sign_in()

    def _sign_in(self) -> Chain:
        generations = self.model.current(self.user.id, FIRST_PARTY)
        answer = self.world.issue(self.user)
        session = Session(
            subject=self.user.id,
            client=FIRST_PARTY,
            generations=generations,
            expire_time=self._now() + SESSION,
        )
        chain = Chain(session, {0: answer.refresh_token})
        self._issued(answer, self.user.id, FIRST_PARTY, session)
        self.chains_known.append(chain)
        return chain

    @precondition(lambda self: not self.store.cut)
    @rule(back=st.integers(0, 3), wait=st.sampled_from([0, 0, 30, 61]), over=st.booleans())
    def refresh(self, back: int, wait: int, over: bool) -> None:
        """Of the last sign-in; of one that is over only where `over` says so."""
        if not self.chains_known or (
            self.model.is_over(self.chains_known[-1].session, self._now()) and not over
        ):
            self._sign_in()
        if wait:
            self.advance(wait)
        chain = self.chains_known[-1]
        number = max(0, max(chain.texts) - back)
        if number not in chain.texts:  # it became void before anybody was given it
            number = max(chain.texts)
        expected = self.model.refresh(chain.session, number, self._now())
        try:
            answer = self.world.refresh(chain.texts[number])
        except grpc.RpcError as error:
            found = failure(error)
            assert isinstance(expected, Refused), found
            assert found.code is grpc.StatusCode.UNAUTHENTICATED, found
            assert expected.reason in ("", found.reason), found
            return
        assert isinstance(expected, Given), "the model refuses"
        known = chain.texts.setdefault(expected.number, answer.refresh_token)
        assert known == answer.refresh_token, "one successor"
        assert list(chain.texts.values()).count(known) == 1, "each number has its own"
        self._issued(answer, chain.session.subject, chain.session.client, chain.session)

    @rule(token=tokens, by_id=st.booleans())
    def revoke_token(self, token: Token, by_id: bool) -> None:
        text, token_id = next((text, id_) for text, id_, known in self.issued if known is token)
        expired = self.model.verify(token, self._now()) == "EXPIRED"
        self._revoke(**({"token_id": token_id} if by_id else {"token": text}))
        token.denied = token.denied or by_id or not expired

    @precondition(lambda self: not self.store.cut)
    @rule(back=st.integers(0, 3), wait=st.sampled_from([0, 0, 30, 61]))
    def refresh_what_lives(self, back: int, wait: int) -> None:
        """The same again, so that it is chosen as often as all the ways to end a session."""
        self.refresh(back, wait, over=False)

    @rule(chain=chains)
    def sign_out(self, chain: Chain) -> None:
        self._revoke(token=chain.texts[max(chain.texts)])
        chain.session.ended = True

    @rule(which=st.sampled_from(["subject", "client", "first-party", "everything"]))
    def revoke_all(self, which: str) -> None:
        principal = {
            "subject": self.user.id,
            "client": self.client.id,
            "first-party": FIRST_PARTY,
            "everything": EVERYTHING,
        }[which]
        target = {"everything": True} if which == "everything" else {"client_id": principal}
        if which == "subject":
            target = {"subject": principal}
        self._revoke(**target)
        self.model.raise_generation(principal)
        self.admin = self.world.admin_token()  # from memory, also while the store is cut off

    @precondition(lambda self: not self.store.cut)
    @rule(by=st.sampled_from([1, 30, 59, 61, 300, 910]))
    def advance(self, by: int) -> None:
        self.world.clock.advance(seconds=by)
        assert eventually(self.world.service._replica.is_fresh)
        self.admin = self.world.admin_token()

    @precondition(lambda self: not self.store.cut)
    @rule()
    def restart(self) -> None:
        world = self.world
        world.service.stop()
        world.channel.close()
        world.store = store = self._open(world.clock)
        hasher = open_hasher(world.settings)
        self.stack.callback(hasher.close)
        world.office = Office(
            settings=world.settings,
            store=store,
            administrator=Administrator(store, hasher, world.clock, logs.LogJournal()),
            clock=world.clock,
        )
        world.service = Service(world.settings, clock=world.clock, store=store)
        world.target = f"127.0.0.1:{world.service.start()}"
        self.stack.callback(world.service.stop)
        world.channel = self.stack.enter_context(grpc.insecure_channel(world.target))
        world.stub = rpc.IdentityServiceStub(world.channel)
        self.admin = world.admin_token()

    @precondition(lambda self: not self.store.cut)
    @rule()
    def cut_off(self) -> None:
        self.store.cut = True

    @precondition(lambda self: self.store.cut)
    @rule()
    def mend(self) -> None:
        self.store.cut = False
        replica = self.world.service._replica
        assert eventually(lambda: replica.is_fresh() and replica.upkeep.owed == 0)
        self.admin = self.world.admin_token()

    # What must be so

    @invariant()
    def every_token_is_what_the_model_says(self) -> None:
        now = self._now()
        for text, _, token in self.issued[-12:]:
            assert self.world.reason(text, any_audience=True, audiences=[]) == self.model.verify(token, now)

    def _revoke(self, **target: Any) -> None:
        """Acknowledged, or while the store is cut off: refused, and denied here all the same."""
        try:
            self.world.revoke(self.admin, **target)
            acknowledged = "OK"
        except grpc.RpcError as error:
            acknowledged = failure(error).code.name
        assert acknowledged == ("UNAVAILABLE" if self.store.cut else "OK")

    def _issued(self, answer: Any, subject: str, client: str, session: Session | None) -> Token:
        generations = session.generations if session else self.model.current(subject, client)
        token = Token(
            subject=subject,
            client=client,
            session=session,
            generations=generations,
            expire_time=self._whole_seconds() + LIFETIME,
        )
        self.issued.append((answer.access_token, answer.token_id, token))
        return token

    def _now(self) -> Any:
        return self.world.clock.now()

    def _whole_seconds(self) -> Any:
        return self._now().replace(microsecond=0)


def _run(open_store: Callable[[ShiftedClock, Path], Store]) -> None:
    machine = type("OnStore", (Machine,), {"open_store": staticmethod(open_store)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
@pytest.mark.timeout(60 + 10 * EXAMPLES)
def test_the_service_agrees_with_the_model_on_sqlite() -> None:
    _run(lambda clock, folder: SqliteStore.open(str(folder / "identity.db"), clock=clock))


@pytest.mark.slow
@pytest.mark.timeout(60 + 10 * EXAMPLES)
def test_the_service_agrees_with_the_model_on_redis(redis_server: RedisServer) -> None:
    fresh: set[Path] = set()

    def open_store(clock: ShiftedClock, folder: Path) -> Store:
        if folder not in fresh:
            fresh.add(folder)
            redis_server.flush()
        return RedisStore.connect(redis_server.url, clock=clock)

    _run(open_store)
