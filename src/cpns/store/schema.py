"""The tables, in words that SQLite and PostgreSQL share. `migrations/` makes them; a test holds the two together.

Inventory (entities, networks, members) is tied by foreign keys. History (audit, readings) is not: what was received or
refused is recorded whatever the inventory says, unknown entities included.

The audit log is read by people alone: nothing is decided on it, so it can be pruned.
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
    false,
)

metadata = MetaData()

_NUMBER = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only in an INTEGER column

origin = Table(
    "origin",
    metadata,
    Column("server_id", Text, primary_key=True),
    Column("set_up_at", Double, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
)

entities = Table(
    "entities",
    metadata,
    Column("entity_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("only_via", Text),
    Column("note", Text, nullable=False),
    Column("sealed_key", LargeBinary, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("may_own", Boolean, nullable=False, server_default=false()),
    Index("entities_fingerprint", "fingerprint", unique=True),
)

last_results = Table(
    "last_results",
    metadata,
    Column("entity_id", Text, ForeignKey("entities.entity_id"), primary_key=True),
    Column("at", Double),
    Column("result", Integer),
    Column("reason", Text),
    Column("via", Text),
)
"""How the newest procedure of each entity ended, from the start without one; null since a PNE was established."""

networks = Table(
    "networks",
    metadata,
    Column("pn_id", Text, primary_key=True),
    Column("gateway_id", Text, ForeignKey("entities.entity_id"), nullable=False),
    Column("alias", Text),
    Column("created_at", Double, nullable=False),
    Column("owner", Text),
    Column("policy", Text, nullable=False, server_default="open"),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("served_since", Double, nullable=False, server_default="0"),
    Column("expelled_at", Double, nullable=False, server_default="0"),
    Index("networks_by_gateway", "gateway_id"),
    Index("networks_by_owner", "owner"),
)

ended_networks = Table(
    "ended_networks",
    metadata,
    Column("pn_id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("ended_at", Double, nullable=False),
    Index("ended_networks_by_age", "ended_at"),
)
"""The version that the end of each PN made: one that is made anew with its ID goes on after that."""

members = Table(
    "members",
    metadata,
    Column("pne_id", Text, ForeignKey("entities.entity_id"), primary_key=True),
    Column("pn_id", Text, ForeignKey("networks.pn_id"), nullable=False),
    Column("pan_secure", Boolean, nullable=False),
    Column("since", Double, nullable=False, server_default="0"),
    Index("members_by_pn", "pn_id"),
)

standings = Table(
    "standings",
    metadata,
    Column("pne_id", Text, primary_key=True),
    Column("pn_id", Text, ForeignKey("networks.pn_id"), primary_key=True),
    Column("standing", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("via", Text),
    Column("last_at", Double),
    Column("attempts", BigInteger, nullable=False, server_default="0"),
    Index("standings_by_pn", "pn_id"),
    Index("standings_by_age", "standing", "at"),
)
"""The member lists. A PNE may be invited before it is provisioned, so its ID is tied to nothing."""

strangers = Table(
    "strangers",
    metadata,
    Column("entity_id", Text, primary_key=True),
    Column("via", Text, nullable=False),
    Column("first_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
)
"""IDs that nobody provisioned, and the PN GW that named them last."""

pushes = Table(
    "pushes",
    metadata,
    Column("number", _NUMBER, primary_key=True),
    Column("push_id", LargeBinary, nullable=False),
    Column("pne_id", Text, ForeignKey("entities.entity_id"), nullable=False),
    Column("text", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("pushes_by_pne", "pne_id", "number"),
    sqlite_autoincrement=True,
)
"""Texts for PNEs that could not be reached, until they can."""

cm_devices = Table(
    "cm_devices",
    metadata,
    Column("cm_device_id", Text, ForeignKey("entities.entity_id"), primary_key=True),
    Column("gateway_id", Text, ForeignKey("entities.entity_id"), nullable=False),
    Column("pne_id", Text, ForeignKey("entities.entity_id"), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("sealed_next", LargeBinary),
    Column("rotation_due", Boolean, nullable=False),
    Column("reassign", Boolean, nullable=False),
    Column("activated_at", Double),
    Index("cm_devices_by_pne", "pne_id"),
)
"""What a CM Device is besides an entity; its ``entities.sealed_key`` is the Key Seed, from generation 1 on its key."""

groups = Table(
    "groups",
    metadata,
    Column("sg_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("service", Text),
    Column("owner", Text, ForeignKey("entities.entity_id"), nullable=False),
    Column("policy", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("vouched", Boolean, nullable=False, server_default=false()),
    Column("keep", BigInteger, nullable=False, server_default="86400"),
    Column("begun", Double, nullable=False, server_default="0"),
    Column("due", Double),
    Index("groups_by_owner", "owner"),
    Index("groups_by_due", "due"),
)

group_places = Table(
    "group_places",
    metadata,
    Column("sg_id", Text, ForeignKey("groups.sg_id"), primary_key=True),
    Column("pne_id", Text, primary_key=True),
    Column("standing", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("newest", LargeBinary),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Index("group_places_by_pne", "pne_id"),
    Index("group_places_by_age", "standing", "at"),
)
"""The lists of the service groups. A PNE may be invited before it is provisioned, so its ID is tied to nothing."""

group_keys = Table(
    "group_keys",
    metadata,
    Column("sg_id", Text, ForeignKey("groups.sg_id"), primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("sealed_key", LargeBinary, nullable=False),
    Column("ended_at", Double),
)
"""The Group Key of each group's running epoch, made when it is first asked for, and of those that ended just now."""

paces = Table(
    "paces",
    metadata,
    Column("pne_id", Text, primary_key=True),
    Column("what", Text, primary_key=True),
    Column("times", Integer, nullable=False),
    Column("since", Double, nullable=False),
    Index("paces_by_age", "since"),
)
"""How often a PNE did lately what may be done at a pace alone."""

senders = Table(
    "senders",
    metadata,
    Column("pne_id", Text, ForeignKey("entities.entity_id"), primary_key=True),
    Column("run", BigInteger, nullable=False),
    Column("verify_key", LargeBinary),
)
"""The PNEs that send to groups, each with the key that it registered last. A row is never dropped: no run returns."""

group_messages = Table(
    "group_messages",
    metadata,
    Column("number", _NUMBER, primary_key=True),
    Column("sg_id", Text, ForeignKey("groups.sg_id"), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("sender", Text, nullable=False),
    Column("seq", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("signature", LargeBinary),
    Column("verify_key", LargeBinary),
    Column("sealed_key", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("group_messages_by_group", "sg_id"),
    sqlite_autoincrement=True,
)
"""Messages to groups that somebody waits for, as they were sent; with the Group Key of their epoch, sealed."""

group_messages_owed = Table(
    "group_messages_owed",
    metadata,
    Column("pne_id", Text, primary_key=True),
    Column("number", BigInteger, ForeignKey("group_messages.number"), primary_key=True, autoincrement=False),
    Index("group_messages_owed_by_number", "number"),
)
"""Who waits for which of them."""

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
    Column("times", BigInteger, nullable=False, server_default="1"),
    Column("role", Text, nullable=False, server_default="server"),
    Column("actor", Text, nullable=False, server_default="server"),
    Column("digest", LargeBinary),
    Column("previous", LargeBinary),
    Index("audit_by_entity", "entity_id", "number"),
    sqlite_autoincrement=True,
)
"""Who did what to whom. *digest* and *previous* are for the chain that is to prove that no row is missing."""

held_through = Table(
    "held_through",
    metadata,
    Column("pne_id", Text, primary_key=True),
    Column("gateway_id", Text, primary_key=True),
    Column("first_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
    Column("establishments", BigInteger, nullable=False),
)
"""What each PN GW ever had to do with each PNE; so also when a PNE was established last, and through whom."""

revocations = Table(
    "revocations",
    metadata,
    Column("number", _NUMBER, primary_key=True),
    Column("at", Double, nullable=False),
    Column("what", Text, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("via", Text),
    sqlite_autoincrement=True,
)
"""Who is out, for the processes of the server: each follows the numbers. What is old is dropped, as of `events`."""

events = Table(
    "events",
    metadata,
    Column("number", _NUMBER, primary_key=True),
    Column("at", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)
"""What happened, for whoever tells of it; each left in the transaction that it is about."""

cursors = Table(
    "cursors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
)
"""How far who follows the events by a name has come, when it came there, and who it was."""

known_hosts = Table(
    "known_hosts",
    metadata,
    Column("host", Text, primary_key=True),
    Column("proved_at", Double, nullable=False),
)
"""Addresses from which somebody proved itself, and when last, give or take a day; not who."""

processes = Table(
    "processes",
    metadata,
    Column("process_id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("listening", Text, nullable=False),
    Column("bus", Text),
    Column("started_at", Double, nullable=False),
    Column("ahead", Double, nullable=False),
    Column("heeded", BigInteger, nullable=False),
    Column("seen_at", Double, nullable=False),
)
"""The processes of a server that may be several: each says here that it is there."""

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Facts there is one of."""

served = Table(
    "served",
    metadata,
    Column("pn_id", Text, primary_key=True),
)
"""At a PN GW: the PNs that it serves."""

held_members = Table(
    "held_members",
    metadata,
    Column("pne_id", Text, primary_key=True),
    Column("pn_id", Text, nullable=False),
    Column("th0", LargeBinary, nullable=False),
    Column("sealed_key", LargeBinary),
    Column("own", Text),
    Column("there", Text),
)
"""At a PN GW: its members, their LocalEUKeys (null on a Secure PAN), and where they proved themselves last."""

cm_keys = Table(
    "cm_keys",
    metadata,
    Column("cm_device_id", Text, primary_key=True),
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    Column("sealed_key", LargeBinary, nullable=False),
)
"""At a CM Device: its keys; two of them while it takes up a fresh one."""
