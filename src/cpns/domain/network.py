"""A personal network as the PN Inventory holds it (DEF-3): records.

Two things are told apart. The *member list* says who may come: its standings are kept until they are taken back. The
*members* are the PNEs that are in the PN now, as they were authenticated through its PN GW; a PNE is in one PN at a
time. One that is in, and not on the list, is a guest: its home is another PN.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cpns.domain.member_list import Policy, Standing
from cpns.errors import Result
from cpns.ids import EntityId, PnId, SgId


@dataclass(frozen=True, slots=True)
class Network:
    """A personal network.

    Attributes:
        owner: the PNE that has the right to invite, approve, expel, bar and release: one that is provisioned to own, or
            that the operator named. None: who came first stands in, with fewer rights.
        version: grows with every change of what the PN Inventory tells of it.
        expelled_at: when who stands in for the owner last put somebody out.
    """

    pn_id: PnId
    gateway_id: EntityId
    alias: str | None
    owner: EntityId | None
    policy: Policy
    version: int
    created_at: float
    expelled_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """One PNE, as one PN sees it.

    Attributes:
        present: whether it is in this PN now.
        home: whether it stands as member on the list of another PN.
        first: whether it is the member that has been in it longest, and it has no owner.
    """

    standing: Standing | None = None
    present: bool = False
    home: bool = False
    first: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """What is decided of a PNE that has proven itself: let in with SUCCESS, else why not.

    Attributes:
        reason: for the audit log and `explain`; empty where it is let in.
        standing: its place on the member list from now on; None leaves the list as it is.
    """

    result: Result
    reason: str = ""
    standing: Standing | None = None

    @property
    def guest(self) -> bool:
        """Whether it is let in, and not on the list."""
        return self.result is Result.SUCCESS and self.standing is not Standing.MEMBER


@dataclass(frozen=True, slots=True)
class Edit:
    """What one decision changes in a PN; committed as a whole, or not at all.

    Attributes:
        event: names it in the audit log.
        subjects: the PNEs that it is about, each with a row in the audit log.
        standings: places on the member list; None takes the PNE off it.
        gone: members that are none from now on.
        released: the PN ends.
    """

    event: str
    subjects: tuple[EntityId, ...] = ()
    standings: Mapping[EntityId, Standing | None] = field(default_factory=dict)
    gone: tuple[EntityId, ...] = ()
    released: bool = False
    gateway_id: EntityId | None = None
    owner: EntityId | None = None
    policy: Policy | None = None
    alias: str | None = None
    expelled_at: float | None = None


@dataclass(frozen=True, slots=True)
class Edited:
    """A committed `Edit`.

    Attributes:
        before: the PN as it was.
        after: the PN as it is; of a released one, as it was, with the version that its end made.
        members: of a released PN, those that were in it.
    """

    before: Network
    after: Network
    edit: Edit
    members: tuple[EntityId, ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A committed `Establishment`.

    Attributes:
        network: the PN as it is; None where nobody was let in and it does not exist.
        admissions: one for every PNE that had proven itself.
        joined: those that were not in it before.
        left: the PNs that others of them were in until now, as these are now, and who left each.
        groups: the service groups that those that were let in are members of.
    """

    network: Network | None
    admissions: Mapping[EntityId, Admission]
    joined: tuple[EntityId, ...] = ()
    left: tuple[tuple[Network, tuple[EntityId, ...]], ...] = ()
    groups: tuple[SgId, ...] = ()


@dataclass(frozen=True, slots=True)
class Present:
    """A member that is in a PN now.

    Attributes:
        since: when it came, seconds since the epoch.
    """

    pne_id: EntityId
    pan_secure: bool
    since: float
    guest: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """One that is in a PN, or stands as member and is not in it.

    Attributes:
        guest: whether it is in it as guest; None: it is not in it.
    """

    pne_id: EntityId
    guest: bool | None


@dataclass(frozen=True, slots=True)
class Inventory:
    """One PN with what is in it: an entry of the PN Inventory.

    Attributes:
        members: by ID.
        listed: standings of those that are not in it, by ID.
    """

    network: Network
    members: tuple[Present, ...]
    listed: tuple[tuple[EntityId, Standing], ...]

    @property
    def first(self) -> EntityId | None:
        """The member that stands in for an owner: it has been in the PN longest. None where there is an owner."""
        if self.network.owner is not None:
            return None
        return min(((one.since, one.pne_id) for one in self.members if not one.guest), default=(0.0, None))[1]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A PNE that an operator or owner has to decide on.

    Attributes:
        pn_id: the PN that it wants to come into.
        known: whether it is provisioned, and has proven that; else nothing is proven but that a PN GW named it.
        since: of its first attempt; *last* of its newest.
    """

    pne_id: EntityId
    pn_id: PnId | None
    via: EntityId
    known: bool
    since: float
    last: float
    attempts: int
