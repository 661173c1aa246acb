"""The JSON of the API that is about who comes in. A key is in what makes an entity, and in `Credential` once."""

from typing import Self

from pydantic import BaseModel, Field

from cpns.domain.credential import DeviceCredential
from cpns.server.models import Request
from cpns.service.provisioning import ImportReport


class NewGateway(Request):
    """A gateway to be made.

    Attributes:
        key: 64 hex digits; null: the server makes one. Who asks again with the same key is answered as the first time.
    """

    id: str
    note: str = ""
    key: str | None = Field(None, repr=False)


class NewDevice(NewGateway):
    """A device to be made; `gateway` is the one through which it is admitted, null for any.

    Attributes:
        allow_unknown_gateway: whether that may be one that is not provisioned yet.
        owner: whether it may own a network.
    """

    gateway: str | None = None
    allow_unknown_gateway: bool = False
    owner: bool = False


class GatewaySettings(Request):
    """What is to change of a gateway; null leaves it."""

    note: str | None = None


class DeviceSettings(GatewaySettings):
    """What is to change of a device; null leaves it.

    Attributes:
        gateway: the one through which it is admitted from now on, empty for any.
        allow_unknown_gateway: as in `NewDevice`.
    """

    gateway: str | None = None
    allow_unknown_gateway: bool = False


class Settled(BaseModel):
    """A gateway or device that was changed, and how many sessions ended with that: those through another gateway."""

    id: str
    ended: int


class Decision(Request):
    """On a waiting device; `network` where it waits for more than one, `key` as in `NewDevice`."""

    network: str | None = None
    note: str = ""
    key: str | None = Field(None, repr=False)


class Credential(BaseModel):
    """What a new entity is given. `credential` holds its key, and is told here and never again; null in a dry run."""

    id: str
    server: str
    credential: str | None

    @classmethod
    def of(cls, credential: DeviceCredential, *, dry_run: bool = False) -> Self:
        """Return *credential* as it leaves."""
        line = None if dry_run else credential.line().reveal().decode()
        return cls(id=credential.entity_id, server=credential.server_id, credential=line)


class BadRow(BaseModel):
    """A row of an import that can't be taken."""

    line: int
    code: str
    detail: str


class ImportedRow(Credential):
    """A device that an import made, or (dry run) would make; `given` is its ID as it stands in that line."""

    line: int
    given: str


class Imported(BaseModel):
    """What an import did; with any bad row, nothing. `credentials` are told here and never again.

    Attributes:
        separator: what stands between the cells of the file.
        unchanged: devices that exist as the file has them.
        credentials: of each device that is made; in a dry run null.
    """

    rows: int
    separator: str
    imported: int
    unchanged: int
    bad: list[BadRow]
    credentials: list[ImportedRow]

    @classmethod
    def of(cls, report: ImportReport, *, dry_run: bool) -> Self:
        """Return *report* as it leaves."""
        made = [] if report.bad else report.made
        rows = [
            ImportedRow(**Credential.of(one.credential, dry_run=dry_run).model_dump(), line=one.line, given=one.given)
            for one in made
        ]
        return cls(
            rows=report.rows,
            separator=report.separator,
            imported=0 if dry_run else len(made),
            unchanged=len(report.unchanged),
            bad=[BadRow(line=row.line, code=row.code, detail=row.sentence) for row in report.bad],
            credentials=rows,
        )


class Approved(BaseModel):
    """A device that was let in; `credential`, told once, where it had none and got one made, else `server` is null."""

    id: str
    server: str | None
    credential: str | None
