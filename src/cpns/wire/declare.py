"""How a message is declared: once, as a frozen class; codec, grammar, and the tables of the documents follow from it.

    @message(33, "INVITE Request", Leg.PNE_TO_SERVER, Leg.SERVER_TO_GATEWAY)
    class InviteRequest(Message):
        pn_id: f.PnId
        invite: f.Invite

One class stands for one shape: where the same message has other fields on another leg, there are two classes with one
number. An attribute with a default is an optional label. Labels from 128 on are elective: who does not know one passes
over it (docs/protocol.md section 3).
"""

import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import Enum
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Final, NamedTuple, TypeVar

from cpns.wire import registry as r

T = TypeVar("T")

FIRST_ELECTIVE: Final = 128
LAST_LABEL: Final = 65535
ENTRIES_LABEL: Final = 16

MAX_ELECTIVES: Final = 8
MAX_ELECTIVE_BYTES: Final = 128

Elective = int | bool | bytes | str
Electives = tuple[tuple[int, Elective], ...]
"""Label and value of electives of a map, in the order of the labels: what older peers pass over."""


class Party(Enum):
    """Who sends, or takes, a message."""

    PNE = "PNE"
    GATEWAY = "PN GW"
    SERVER = "server"


_PNE, _GATEWAY, _SERVER = Party.PNE, Party.GATEWAY, Party.SERVER


class Leg(Enum):
    """A way that requests take: from whom, to whom, and what protects them (None: nothing does)."""

    PNE_TO_SERVER = (_PNE, _SERVER, "`pne-server`")
    SERVER_TO_PNE = (_SERVER, _PNE, "`pne-server`")
    GATEWAY_TO_SERVER = (_GATEWAY, _SERVER, "`gw-server`")
    SERVER_TO_GATEWAY = (_SERVER, _GATEWAY, "`gw-server`")
    MEMBER_TO_GATEWAY = (_PNE, _GATEWAY, "`pne-gw`, or plainly on a Secure PAN")
    GATEWAY_TO_MEMBER = (_GATEWAY, _PNE, "`pne-gw`, or plainly on a Secure PAN")
    PAN_TO_GATEWAY = (_PNE, _GATEWAY, None)
    PAN_TO_PNE = (_GATEWAY, _PNE, None)
    UPLINK_TO_SERVER = (_GATEWAY, _SERVER, None)
    UPLINK_TO_GATEWAY = (_SERVER, _GATEWAY, None)

    def __init__(self, sender: Party, receiver: Party, session: str | None) -> None:
        self.sender = sender
        self.receiver = receiver
        self.session = session
        self.limit = r.MAX_PAN_BODY if Party.PNE in (sender, receiver) else r.MAX_BODY
        """Most bytes of a body: it may have to get over a PAN."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be: for the codec, in CDDL, and for a small device.

    Attributes:
        bounds: ``("int", low, high)``, ``("bytes", sizes...)``, ``("bool",)``, ``("name",)``, ``("text", most bytes)``,
            ``("names", fewest, most)``, ``("texts", most)``.
    """

    check: Callable[[object], bool]
    cddl: str
    bounds: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """A key of a body's map: its number, its name in the grammar, what its value may be, and what that means."""

    number: int
    name: str
    kind: Kind
    meaning: str

    @property
    def elective(self) -> bool:
        """Whether a receiver that does not know it passes over it."""
        return self.number >= FIRST_ELECTIVE


class Message:
    """A body ``[type, {label: value}]``.

    Attributes:
        TYPE: its first element.
        TITLE: as the seeds write it: ``SETUP Request``, ``PNEstablishmentNotify``.
        LEGS: where it may come; those of an answer are those that its request came by.
        ANSWERS: of an answer, to what.
        GROWS: whether an elective may mean something in it: not where nothing binds it, or it comes too early.
    """

    __slots__ = ()
    TYPE: ClassVar[int]
    TITLE: ClassVar[str]
    GROWS: ClassVar[bool]
    LEGS: ClassVar[tuple[Leg, ...]] = ()
    ANSWERS: ClassVar[tuple[type["Message"], ...]] = ()


class Row(NamedTuple):
    """One attribute of a message.

    Attributes:
        number: of its label.
        entry: what stands in label 16.
    """

    number: int
    name: str
    check: Callable[[object], bool]
    entry: type[Any] | None
    required: bool
    label: Label


@dataclass(frozen=True, slots=True)
class Shape:
    """What a class declares.

    Attributes:
        rows: in the order of the wire.
        critical: labels below 128.
        keeps: whether electives that it does not declare are kept, in `electives`: they are in th0, or are carried on.
        grown: whether it declares electives itself.
        labels, values: what `encode` needs: the labels of its rows, and what makes of a message their values.
        plan: what `decode` needs of its rows.
    """

    cls: type[Any]
    rows: tuple[Row, ...]
    critical: frozenset[int]
    required: frozenset[int]
    keeps: bool
    grown: bool
    labels: tuple[int, ...]
    values: Callable[[object], tuple[Any, ...]]
    plan: tuple[tuple[int, str, Callable[[object], bool], type[Any] | None, bool], ...]


SHAPES: Final[dict[type[Any], Shape]] = {}
"""Each declared class to what it declares."""
MESSAGES: Final[list[type[Message]]] = []
ENTRIES: Final[list[type[Any]]] = []
"""What stands in the label 16 of messages."""
TITLES: Final[dict[int, str]] = {}
"""Name of each type."""


def _entries(value: object) -> bool:
    return type(value) is list and 0 < len(value) <= r.MAX_BATCH


_ENTRIES_OF: Final = Label(ENTRIES_LABEL, "entries", Kind(_entries, "[1*64 entry]", ("entries",)), "entries")


def _row(name: str, hint: Any, *, required: bool) -> Row:  # noqa: ANN401  # a type, as typing gives it
    """Return what the attribute *name* of type *hint* declares."""
    for one in (hint, *typing.get_args(hint)):
        if typing.get_origin(one) is Annotated:
            label = next(item for item in one.__metadata__ if isinstance(item, Label))
            if label.elective and required:
                raise TypeError(f"{name}: label {label.number} is elective, so it needs a default")
            return Row(label.number, name, label.kind.check, None, required, label)
        entry = next((item for item in typing.get_args(one) if is_dataclass(item)), None)
        if entry is not None:
            return Row(ENTRIES_LABEL, name, _entries, typing.cast(type[Any], entry), required, _ENTRIES_OF)
    raise TypeError(f"{name}: no label")


def _values_of(names: list[str]) -> Callable[[object], tuple[Any, ...]]:
    """Return what makes of a message the values of its attributes *names*."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda message: tuple(getattr(message, name) for name in names)  # of one, a getter returns no tuple


def _declared(cls: type[T]) -> type[T]:
    """Make *cls* a frozen dataclass, and take up what it declares."""
    made = dataclass(frozen=True, slots=True)(cls)
    hints = typing.get_type_hints(made, include_extras=True)
    own = fields(made)  # type: ignore[arg-type]  # it is one by now
    rows = [_row(one.name, hints[one.name], required=one.default is MISSING) for one in own if one.name != "electives"]
    rows.sort(key=lambda row: row.number)
    numbers = [row.number for row in rows]
    if len(set(numbers)) != len(numbers):
        raise TypeError(f"{cls.__name__}: a label comes twice")
    SHAPES[made] = Shape(
        made,
        tuple(rows),
        frozenset(number for number in numbers if number < FIRST_ELECTIVE),
        frozenset(row.number for row in rows if row.required),
        keeps=any(one.name == "electives" for one in own),
        grown=any(row.label.elective for row in rows),
        labels=tuple(numbers),
        values=_values_of([row.name for row in rows]),
        plan=tuple(row[:5] for row in rows),
    )
    return made


def _take_up(made: type[Any], number: int, title: str, *, grows: bool) -> None:
    if TITLES.setdefault(number, title) != title:
        raise TypeError(f"{made.__name__}: type {number} is {TITLES[number]}")
    if SHAPES[made].grown and not grows:
        raise TypeError(f"{made.__name__}: an elective means nothing here")
    made.TYPE, made.TITLE, made.GROWS = number, title, grows
    MESSAGES.append(made)


@typing.dataclass_transform(frozen_default=True, field_specifiers=(field,))
def message(number: int, title: str, *legs: Leg, grows: bool = True) -> Callable[[type[T]], type[T]]:
    """Declare a request that may come by *legs*; a "Notify" is one too. See `Message` for *grows*."""

    def declare(cls: type[T]) -> type[T]:
        made: Any = _declared(cls)
        _take_up(made, number, title, grows=grows)
        made.LEGS = legs
        return typing.cast(type[T], made)

    return declare


@typing.dataclass_transform(frozen_default=True, field_specifiers=(field,))
def answer(number: int, title: str, *requests: type[Message], grows: bool = True) -> Callable[[type[T]], type[T]]:
    """Declare an answer to *requests*. See `Message` for *grows*."""

    def declare(cls: type[T]) -> type[T]:
        made: Any = _declared(cls)
        _take_up(made, number, title, grows=grows)
        made.ANSWERS = requests
        return typing.cast(type[T], made)

    return declare


@typing.dataclass_transform(frozen_default=True, field_specifiers=(field,))
def entry(cls: type[T]) -> type[T]:
    """Declare what stands in label 16 of a message."""
    made = _declared(cls)
    ENTRIES.append(made)
    return made


def taken_by(receiver: Party) -> tuple[type[Message], ...]:
    """Return the requests that may come to *receiver*, by whichever leg."""
    return tuple(one for one in MESSAGES if any(leg.receiver is receiver for leg in one.LEGS))
