"""The PN GW's copy of a LocalEUKey, rand_server, and the decoy key of an unknown PNE (PROTOCOL 1 and 4)."""

from cpns.crypto import primitives as p
from cpns.crypto.secret import Secret
from cpns.ids import EntityId


def gateway_prk(exporter: Secret, gateway_eukey: Secret) -> Secret:
    """Return ``Extract(exporter of the gw-server session, PN GW's EUKey)``, the same for all entries of a session."""
    return Secret(p.extract(exporter.reveal(), gateway_eukey.reveal()))


def gateway_wrap_key(prk: Secret, th0: bytes) -> Secret:
    """Return the key of W_G, bound to the session (by *prk*) and to the run (by *th0*)."""
    return Secret(p.expand(prk.reveal(), p.enc("cpns1 wrap gw", th0), 32))


class GatewayWrap:
    """Wraps all LocalEUKeys of one AUTHENTICATE Request for the PN GW (AUTH-S2)."""

    __slots__ = ("_prk",)

    def __init__(self, prk: Secret) -> None:
        self._prk = p.Keyed(prk.reveal())

    def wrap(self, th0: bytes, local_eukey: Secret) -> bytes:
        """Return W_G, 40 bytes."""
        return p.wrap_key(self._prk.expand(_WRAP_GW + th0), local_eukey.reveal())


def open_at_gateway(prk: Secret, th0: bytes, wrapped: bytes) -> Secret:
    """Return the LocalEUKey in W_G (AUTH-G3).

    Raises:
        AuthenticationFailed: it was made for another session, run or PN GW.
    """
    return Secret(p.unwrap_key(gateway_wrap_key(prk, th0).reveal(), wrapped))


def rand_server(process_key: Secret, fresh: bytes, txn: bytes) -> bytes:
    """Return rand_server, 16 bytes: random, and a hash value calculated by the CPNS Server, as the seed says both."""
    return p.mac16(process_key.reveal(), p.enc("cpns1 rand", fresh, txn))


def decoy_prk(server_secret: Secret) -> p.Keyed:
    """Return the key from which `decoy_key` derives; made once."""
    return p.Keyed(p.extract(b"cpns1 unknown", server_secret.reveal()))


def decoy_key(prk: p.Keyed, entity: EntityId) -> Secret:
    """Return the key with which the server goes on for an unknown, revoked or not admitted PNE (PROTOCOL 4.3)."""
    return Secret(prk.expand(p.enc("cpns1 unknown", entity)))


def gateway_vault_key(gateway_eukey: Secret, gateway: EntityId) -> Secret:
    """Return the key under which a PN GW seals at rest the LocalEUKeys that it was given (DEF-8); 32 bytes."""
    prk = p.extract(b"cpns1 gateway vault", gateway_eukey.reveal())
    return Secret(p.expand(prk, p.enc("cpns1 gateway vault", gateway), 32))


_WRAP_GW = p.head("cpns1 wrap gw")
