"""The PN GW's way to the server: connect, authenticate (7.5.5), stay, and come back after a loss."""

import asyncio
import contextlib
import logging
import random as jitter
import ssl
from collections.abc import Awaitable, Callable, Sized
from functools import partial
from typing import Any, Final

from cpns.crypto.local_eukey import gateway_prk
from cpns.errors import AuthenticationFailed, CpnsError, NoAnswer, Refused, Result
from cpns.gateway.claim import Claim
from cpns.gateway.config import GatewayConfig
from cpns.gateway.servers import Address, Servers
from cpns.gateway.uplink_states import (
    TRANSITIONS,
    Connecting,
    Down,
    Event,
    Failed,
    Kept,
    LetGo,
    LettingGo,
    Lost,
    PauseOver,
    Pausing,
    Renewed,
    Standing,
    Stands,
    State,
    Stood,
    Up,
)
from cpns.ports import Randomness, Time
from cpns.service.life import Life, within
from cpns.service.sessions import session_of
from cpns.session.table import Sessions
from cpns.shares.noted import by
from cpns.transport.address import at
from cpns.transport.endpoint import Endpoint, Inbound, Link
from cpns.transport.errors import STORE_FAILS_REASON, Answer, Code, Hinted
from cpns.transport.oscore import MESSAGE_LIMIT, sent
from cpns.transport.uplink import is_reachable
from cpns.wire import application
from cpns.wire.messages import LinkChallengeFromServer, Proof

_log = logging.getLogger("cpns.gateway")

BACKOFF = (0.2, 10.0)
"""First and longest pause, in seconds, between attempts; each is drawn from half of it up to all of it."""
PING_SECONDS: Final = 3.0
"""What the server has to answer a `/ping` on an uplink that is silent; no more than the silence before it."""
PINGS: Final = 2
"""Those without an answer after which the uplink is given up."""
RETURN_SECONDS: Final = 60.0
"""Seconds, up to twice as many, after which a server that is preferred is looked for again."""
LET_GO_SECONDS: Final = 2.0
"""What is under way at the server that it leaves has so long to come to its end."""
LONGEST_REFUSED = 300.0
"""The longest pause where the server goes on refusing our proof; eleven refusals in a row lead there."""

_HINTS = {
    "refused_with_21": "it was revoked, or the server has another key for it",
    STORE_FAILS_REASON: "its store is away, or full: see the server's log",
    "peer_answered_too_many": "another gateway runs with this credential, or the server has no place just now",
}
_TLS_HINTS = {
    (False, "connection_gone"): "if the server listens with TLS, give --tls",
    (True, "SSLError"): "if the server listens without TLS, leave --tls out",
    (True, "certificate_has_ended"): "renew it at the server, whose log says when it ended; or our clock is wrong",
    (True, "certificate_not_yet_valid"): "our clock is wrong, or the server's certificate begins later",
    (True, "SSLCertVerificationError"): "give --tls-ca with who signed its certificate, --server with a name in that",
}
_VERIFY_CODES = {9: "certificate_not_yet_valid", 10: "certificate_has_ended"}
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""


def reason_of(error: OSError | Refused) -> str:
    """Return in a word why there is no uplink."""
    if isinstance(error, Refused):
        return error.reason
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY_CODES.get(error.verify_code, type(error).__name__)
    return type(error).__name__


def what_to_do(tls: bool, reason: str) -> str:
    """Return what may help where an uplink, with or without TLS, fails for *reason*; empty where nobody can tell."""
    return _TLS_HINTS.get((tls, reason)) or _HINTS.get(reason, "")


def longest_pause(error: OSError | Refused) -> float:
    """Return the longest pause, in seconds, before another attempt after one that ended in *error*."""
    refused = isinstance(error, Refused) and error.result is Result.AUTHENTICATION_FAILED
    return LONGEST_REFUSED if refused else BACKOFF[1]


class Uplink:
    """Keeps one authenticated connection to the server.

    Args:
        endpoint: of this PN GW on the uplink; requests of the server come in there.
        sessions: the sessions of that endpoint.
        claim: proves this PN GW.

    Attributes:
        life: whether it stands.
        last_refusal: why the last attempt failed; empty once one did not.
    """

    def __init__(
        self,
        config: GatewayConfig,
        endpoint: Endpoint,
        sessions: Sessions,
        time: Time,
        random: Randomness,
        claim: Claim,
    ) -> None:
        self._config = config
        self._endpoint = endpoint
        self._sessions = sessions
        self._time = time
        self._random = random
        self._claim = claim
        self._servers = Servers(config)
        self._connecting = asyncio.Lock()
        self._proving: Link | None = None
        self._prepares: list[Callable[[Standing], Awaitable[None]]] = []
        self._setups: list[Sized] = []
        self.life: Life[State, Event] = Life(TRANSITIONS, Connecting(time.monotonic()))
        self.last_refusal = ""

    def prepares(self, prepare: Callable[[Standing], Awaitable[None]]) -> None:
        """Have *prepare* awaited when a server has taken our proof, before the uplink serves anybody."""
        self._prepares.append(prepare)

    def carries(self, setups: Sized) -> None:
        """Keep the uplink that stands while there are any *setups*."""
        self._setups.append(setups)

    @property
    def standing(self) -> Standing | None:
        """The uplink, or None while it is away."""
        return _standing(self.life.state)

    @property
    def away(self) -> float:
        """Seconds since the uplink was lost, or fell silent where a `/ping` has no answer; 0 while it stands."""
        state = self.life.state
        if isinstance(state, Down):
            return self._time.monotonic() - state.since
        standing = _standing(state)
        silence = 0.0 if standing is None else standing.link.silence
        return silence if silence > self._config.keepalive + self._patience else 0.0

    @property
    def _patience(self) -> float:
        return min(PING_SECONDS, self._config.keepalive)

    async def wait(self, patience: float) -> Standing:
        """Return the uplink, waiting up to *patience* seconds for one that is away.

        Raises:
            NoAnswer: it stayed away.
        """
        if not isinstance(self.life.state, Stands):
            with contextlib.suppress(TimeoutError):
                await within(self._time, patience, self.life.until(_serving))
        standing = self.standing
        if standing is None:
            raise NoAnswer("uplink_away")
        return standing

    async def stay(self) -> None:
        """Connect and reconnect until cancelled."""
        pause, longest = BACKOFF
        try:
            while True:
                try:
                    await self._connect()
                    pause, longest = BACKOFF
                    await self._watch()
                except (OSError, Refused) as error:
                    self._failed(reason_of(error))
                    longest = longest_pause(error)
                seconds = pause * jitter.uniform(0.5, 1.0)  # noqa: S311  # spreads load, hides nothing
                with contextlib.suppress(TimeoutError):
                    await within(self._time, seconds, self.life.until_not(Pausing))
                    continue
                self.life.happens(PauseOver())
                pause = min(pause * 2, longest)
        finally:
            if self.standing is not None:
                self._end(self.standing)

    def _failed(self, reason: str) -> None:
        """There is no uplink at this server: try the next one; say so when all were tried."""
        self.last_refusal = reason
        hint = what_to_do(self._config.tls, reason)
        told = self._servers.failed(f"{reason}: {hint}" if hint else reason)
        if told is not None:
            said = "no uplink to %s %s; trying on"
            _log.warning(said, self._config.server_id, told, extra=by(self._config.server_id, state="uplink"))
        self.life.happens(Failed())

    def lost(self, link: Link) -> None:
        """The connection is gone."""
        standing = self.standing
        if standing is not None and standing.link == link:
            self._end(standing)

    def _end(self, standing: Standing) -> None:
        """An uplink is over."""
        silence = 0.0 if standing.link.closed else standing.link.silence
        if self.life.happens(Lost(standing, self._time.monotonic() - silence)):
            self._discard(standing)

    def _discard(self, standing: Standing) -> None:
        self._sessions.remove(standing.session)
        standing.link.close()

    async def _connect(self) -> None:
        async with self._connecting:
            if self.standing is None:
                server = self._servers.present
                self._stand(server, await self._prove(await self._link_to(server)))

    async def _link_to(self, server: Address) -> Link:
        config = self._config
        tls = ssl.create_default_context(cafile=config.tls_ca) if config.tls else None
        connects = self._endpoint.connect(*server, tls)
        link = await within(self._time, config.answer_timeout, connects)  # not for as long as the kernel would try
        self._endpoint.name(link, config.server_id)
        return link

    async def _prove(self, link: Link) -> Standing:
        """Authenticate (7.5.5) at *link*, and learn what was missed. Where that fails it is closed."""
        kid = self._sessions.reserve((self._random(1) for _ in range(64)), b"")
        self._proving = link
        try:
            established, key = await self._claim.prove(link, kid)
            if not self._let_go():
                raise NoAnswer("setup_runs")
        except CpnsError:
            link.close()
            raise
        finally:
            self._proving = None
            self._sessions.release([kid])
        session = session_of(established, self._time.monotonic())
        self._sessions.add(session)
        standing = Standing(link, session, gateway_prk(established.keys.exporter(), key))
        try:
            await self._prepare(standing)
            await self._claim.stands()
        except CpnsError:
            self._sessions.remove(session)
            link.close()
            raise
        return standing

    async def _prepare(self, standing: Standing) -> None:
        for prepare in self._prepares:
            await prepare(standing)

    def _stand(self, server: Address, standing: Standing) -> None:
        self.life.happens(Stood(standing))
        if self.standing is not standing:
            self._discard(standing)
            return
        self.last_refusal = ""
        self._servers.did(server)
        _log.info("uplink to %s stands", self._config.server_id, extra=by(self._config.server_id, state="uplink"))

    # coming back to the server that it prefers

    async def come_back(self) -> None:
        """Go back to a server that is preferred, when that can be reached again and no SETUP runs, until cancelled."""
        pause = RETURN_SECONDS
        while True:
            await self._time.sleep(pause * jitter.uniform(1.0, 2.0))  # noqa: S311  # spreads load, hides nothing
            pause = RETURN_SECONDS
            for server in self._servers.better:
                older = self.standing
                if older is None or not self._is_idle() or not await is_reachable(*server, self._config.answer_timeout):
                    continue
                pause = await self._told_to_wait(older)
                if not pause:
                    await self._go_to(server, older)
                    pause = RETURN_SECONDS
                break

    async def _told_to_wait(self, standing: Standing) -> float:
        """Return how many seconds the server that we are at wants us to wait before we may go; 0: we may."""
        how: dict[str, Any] = {"timeout": self._config.answer_timeout, "session": standing.session}
        try:
            answer = await standing.link.exchange(application.REBALANCE_PATH, b"", **how)
        except NoAnswer:
            return RETURN_SECONDS
        return 0.0 if answer.ok else answer.max_age or RETURN_SECONDS  # an older server knows no such resource

    async def _go_to(self, server: Address, older: Standing) -> None:
        """Set up at *server* before we let go of *older*, which serves on until the server has said something."""
        async with self._connecting:
            if self.standing is not older or not self._is_idle():
                return
            try:
                link = await self._link_to(server)
                self._stand(server, await self._prove(link))
            except (OSError, CpnsError) as error:
                _log.info("can't go back to %s: %s", at(*server), error, extra=by(self._config.server_id))
                if isinstance(self.life.state, LettingGo) and self.standing is older:
                    await self._stay_with(older)
                return
        await self._time.sleep(LET_GO_SECONDS)
        older.link.close()

    def _let_go(self) -> bool:
        """Let go of the uplink that stands, if any; return False, and keep it, where a SETUP runs there.

        From now on a SETUP waits for the new uplink, and nobody is told that we are at the older one: its server would
        take us for two.
        """
        if isinstance(self.life.state, Stands):
            if not self._is_idle():
                return False
            self.life.happens(LetGo())
        return True

    def _is_idle(self) -> bool:
        return not any(len(setups) for setups in self._setups)

    async def _stay_with(self, older: Standing) -> None:
        """Serve on with the uplink that we had let go of; what was meant for us may have gone where we are not."""
        self._sessions.add(older.session)
        self.life.happens(Kept(older))
        try:
            await self._prepare(older)
        except CpnsError as error:
            _log.info("connecting anew: %s", error, extra=by(self._config.server_id))
            self._end(older)

    async def challenged(self, inbound: Inbound, challenge: LinkChallengeFromServer) -> Proof | None:
        """See `Claim.challenged`; a server that challenges us is there."""
        if inbound.link != self._proving:
            raise AuthenticationFailed("no_run_under_way")
        if not self._let_go():
            inbound.link.close()
            return None
        return self._claim.challenged(challenge)

    def pinged(self, inbound: Inbound) -> Answer | None:
        """Answer whether we are there."""
        state = self.life.state
        left = isinstance(state, LettingGo) and inbound.link == state.standing.link
        return None if left else Answer(Code.CHANGED)

    def renew(self) -> None:
        """Connect and authenticate anew at once; what comes meanwhile is held."""
        standing = self.standing
        self.life.happens(Renewed(self._time.monotonic()))
        if standing is not None:
            self._discard(standing)

    async def _watch(self) -> None:
        """Return when the connection is gone, its session worn out, or the server silent."""
        while (standing := self.standing) is not None:
            if standing.link.closed:
                self._end(standing)
                return
            with contextlib.suppress(TimeoutError):
                seconds = max(0.0, self._config.keepalive - standing.link.silence)
                await within(self._time, seconds, self.life.until(partial(_another, standing)))
            if self.standing is not standing:
                continue
            worn_out = self._time.monotonic() - standing.session.since > self._config.session_age
            silent = standing.link.silence >= self._config.keepalive
            if worn_out or sent(standing.session) > MESSAGE_LIMIT or (silent and not await self._answers(standing)):
                self._end(standing)

    async def _answers(self, standing: Standing) -> bool:
        """Whether the server answers on an uplink that is silent: a NAT between may have forgotten it."""
        for _ in range(PINGS):
            try:
                await standing.link.exchange(
                    application.PING_PATH, b"", timeout=self._patience, session=standing.session
                )
            except Hinted:  # it is there, and does not know our session
                return False
            except NoAnswer:
                if standing.link.closed:
                    return False
            if standing.link.silence < self._patience:
                return True
        said = "the uplink to %s is silent for %.0f s, and %d pings have no answer: connecting anew"
        server = self._config.server_id
        _log.warning(said, server, standing.link.silence, PINGS, extra=by(server, state="uplink"))
        return False


def _standing(state: State) -> Standing | None:
    return state.standing if isinstance(state, Up) else None


def _serving(state: State) -> Standing | None:
    return state.standing if isinstance(state, Stands) else None


def _another(standing: Standing, state: State) -> State | None:
    return None if _standing(state) is standing else state
