"""What the JSON of features and of the admin API has in common. Times are RFC 3339, UTC."""

from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel, ConfigDict

from cpns.domain import inventory


def rfc3339(at: float) -> str:
    """Return a time of the store as text, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Request(BaseModel):
    """What is sent; a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid")


class Devices(Request):
    """The devices that an action is about."""

    devices: list[str]


class Event(BaseModel):
    """A row of the audit log.

    Attributes:
        at: of a refusal that came again, the newest time; *times* says how often it came.
        by: who did it, an ID or a person's name; *role* says as whom.
    """

    at: str
    event: str
    role: str
    by: str
    via: str | None
    result: str
    reason: str
    times: int

    @classmethod
    def of(cls, outcome: inventory.Outcome) -> Self:
        """Return *outcome* as it leaves."""
        return cls(
            at=rfc3339(outcome.at),
            event=outcome.event,
            role=outcome.actor.role.value,
            by=outcome.actor.name,
            via=outcome.via,
            result=outcome.result.name.lower(),
            reason=outcome.reason,
            times=outcome.times,
        )


class Revoked(BaseModel):
    """An entity that was revoked, and how many sessions ended with it."""

    id: str
    ended: int


class Invited(BaseModel):
    """How an invitation ended for each device."""

    results: dict[str, str]


class Done(BaseModel):
    """What was acted on."""

    id: str
