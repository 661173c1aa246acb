"""How a PN GW proves to the server who it is: by its EUKey (7.5.5), or, in a CM Device, by its CM Device Key (S2)."""

from typing import Final, Protocol

from cpns.crypto.ephemeral import SEED_BYTES
from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.domain.cm import CmKey
from cpns.errors import AuthenticationFailed, Refused, Result
from cpns.gateway.config import GatewayConfig
from cpns.ports import Randomness
from cpns.protocol.cm_activate import device
from cpns.protocol.established import Established
from cpns.protocol.link_auth import claimant
from cpns.service.electives import ByTurns
from cpns.transport.endpoint import Link
from cpns.transport.errors import Answer, read
from cpns.wire import codec, registry
from cpns.wire.messages import ActivateResponse, CmActivateResponse, LinkChallengeFromServer, Proof
from cpns.wire.registry import Suite

Proven = tuple[Established, Secret]
"""The session, and the long-term key that it came of: with it the server wraps our LocalEUKey copies."""


class Claim(Protocol):
    """What proves a PN GW, once for each connection."""

    async def prove(self, link: Link, kid: bytes) -> Proven:
        """Run ACTIVATE on *link*, our Recipient ID being *kid*. Raises `Refused`."""
        ...

    def challenged(self, challenge: LinkChallengeFromServer) -> Proof:
        """Answer the server's AUTHENTICATE Request inside ACTIVATE; one for each run.

        Raises:
            AuthenticationFailed: no run waits for it, or it is not of our server.
        """
        ...

    async def stands(self) -> None:
        """The server has answered inside the session: it has taken our proof."""
        ...


class EukeyClaim:
    """Profile `gw-server`, as claimant.

    Args:
        eukey: of this PN GW.
    """

    def __init__(self, config: GatewayConfig, eukey: Secret, random: Randomness) -> None:
        self._config = config
        self._eukey = eukey
        self._random = random
        self._says = ByTurns(config.electives)
        self._run: claimant.AwaitingChallenge | claimant.AwaitingProof | None = None

    async def prove(self, link: Link, kid: bytes) -> Proven:
        """See `Claim`."""
        config = self._config
        self._run, request = claimant.begin(
            Profile.GW_SERVER,
            own_id=config.gateway_id,
            responder_id=config.server_id,
            key=self._eukey,
            suite=config.suite,
            rand=self._random(registry.RAND_BYTES),
            kid=kid,
            eph_seed=self._random(SEED_BYTES),
            electives=self._says.now(),
        )
        try:
            established = await link.request(
                registry.CPNS_PATH,
                codec.encode(request),
                timeout=config.answer_timeout * 2,
                accept=self._finish,
            )
        except Refused:
            self._says.failed()
            raise
        finally:
            self._run = None
        return established, self._eukey

    def _finish(self, answer: Answer) -> Established:
        response = read(answer, ActivateResponse)
        if not isinstance(self._run, claimant.AwaitingProof):
            raise AuthenticationFailed(f"refused_with_{response.result}")
        return claimant.finish(self._run, response)

    def challenged(self, challenge: LinkChallengeFromServer) -> Proof:
        """See `Claim`."""
        if not isinstance(self._run, claimant.AwaitingChallenge):
            raise AuthenticationFailed("no_run_under_way")
        self._run, proof = claimant.answer(self._run, challenge)
        return proof

    async def stands(self) -> None:
        """See `Claim`."""


class CmKeys(Protocol):
    """The keys of a CM Device; two of them while it takes up a fresh one."""

    def to_try(self) -> CmKey:
        """Return the newest, or the older one after `refused`. Raises `Refused`: there is none."""
        ...

    async def proven(self, key: CmKey) -> None:
        """The server took *key*: older ones are of no use any more."""
        ...

    def refused(self, key: CmKey) -> None:
        """The server did not take *key*."""
        ...


class CmClaim:
    """Profile `cm-server`: CM Device ID and code, and the server's code (CM-12, CM-15).

    Args:
        keys: of this CM Device.
    """

    def __init__(self, config: GatewayConfig, keys: CmKeys, random: Randomness) -> None:
        self._config = config
        self._keys = keys
        self._random = random
        self._says = ByTurns(config.electives)
        self._used: CmKey | None = None

    async def prove(self, link: Link, kid: bytes) -> Proven:
        """See `Claim`."""
        key = self._keys.to_try()
        state, request = device.begin(
            own_id=key.cm_device_id,
            server_id=self._config.server_id,
            key=key.key,
            suite=max(self._config.suite, Suite.X25519),
            rand=self._random(registry.RAND_BYTES),
            kid=kid,
            eph_seed=self._random(SEED_BYTES),
            electives=self._says.now(),
        )
        try:
            response = await link.ask(request, *_ANSWERS_TO_CODE, timeout=self._config.answer_timeout)
            if isinstance(response, ActivateResponse):
                told = Result.told(response.result or Result.AUTHENTICATION_FAILED, Result.AUTHENTICATION_FAILED)
                raise Refused(told, f"refused_with_{response.result}")
            established = device.finish(state, response)
        except AuthenticationFailed:
            self._says.failed()
            raise  # not our server: it may be that somebody is in between
        except Refused as error:
            self._says.failed()
            if error.result is Result.AUTHENTICATION_FAILED:
                self._keys.refused(key)
            raise
        self._used = key
        return established, key.key

    def challenged(self, challenge: LinkChallengeFromServer) -> Proof:
        """See `Claim`; there is no such message in this profile."""
        raise AuthenticationFailed("no_run_under_way")

    async def stands(self) -> None:
        """See `Claim`."""
        if self._used is not None:
            await self._keys.proven(self._used)


_ANSWERS_TO_CODE: Final[tuple[type[CmActivateResponse | ActivateResponse], ...]] = (
    CmActivateResponse,
    ActivateResponse,
)
"""The second one refuses: it comes where the code was lost on the way, and the server took us for another PN GW."""
