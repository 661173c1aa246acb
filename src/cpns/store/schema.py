"""The tables, in words that SQLite and PostgreSQL share. `migrations/` makes them; a test holds the two together.

Inventory (entities, networks, members) is tied by foreign keys. History (audit, readings) is not: what was received or
refused is recorded whatever the inventory says, unknown entities included.

How an entity's last procedure ended is not a column: it is the entity's newest row of ``audit``, found by
``audit_by_entity``. So it is written once, and can't disagree with the log.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

metadata = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only in an INTEGER column

entities = Table(
    "entities",
    metadata,
    Column("entity_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("only_via", Text),
    Column("note", Text, nullable=False),
    Column("sealed_eukey", LargeBinary, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Index("entities_fingerprint", "fingerprint", unique=True),
)

networks = Table(
    "networks",
    metadata,
    Column("pn_id", Text, primary_key=True),
    Column("gateway_id", Text, ForeignKey("entities.entity_id"), nullable=False),
    Column("alias", Text),
    Column("created_at", Double, nullable=False),
    Index("networks_gateway", "gateway_id", unique=True),
)

members = Table(
    "members",
    metadata,
    Column("pne_id", Text, ForeignKey("entities.entity_id"), primary_key=True),
    Column("pn_id", Text, ForeignKey("networks.pn_id"), nullable=False),
    Column("pan_secure", Boolean, nullable=False),
    Index("members_by_pn", "pn_id"),
)

readings = Table(
    "readings",
    metadata,
    Column("number", _NUMBER, primary_key=True),
    Column("pne_id", Text, nullable=False),
    Column("reading_id", LargeBinary, nullable=False),
    Column("gateway_id", Text, nullable=False),
    Column("verified", Text, nullable=False),
    Column("received_at", Double, nullable=False),
    Column("body", Text, nullable=False),
    Index("readings_once", "pne_id", "reading_id", unique=True),
    sqlite_autoincrement=True,  # a number is never given twice, not even after the newest rows are gone
)

audit = Table(
    "audit",
    metadata,
    Column("number", _NUMBER, primary_key=True),
    Column("at", Double, nullable=False),
    Column("event", Text, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("via", Text),
    Column("result", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Index("audit_by_entity", "entity_id", "number"),
)

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Facts there is one of, such as the PN that a PN GW serves."""

local_eukeys = Table(
    "local_eukeys",
    metadata,
    Column("pne_id", Text, primary_key=True),
    Column("pn_id", Text, nullable=False),
    Column("th0", LargeBinary, nullable=False),
    Column("sealed_key", LargeBinary, nullable=False),
)
