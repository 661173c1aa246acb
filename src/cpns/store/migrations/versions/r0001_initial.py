"""The schema of cpns 0.1."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _inventory()
    _records()


def _inventory() -> None:
    op.create_table(
        "entities",
        sa.Column("entity_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("only_via", sa.Text),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("sealed_eukey", sa.LargeBinary, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
    )
    op.create_index("entities_fingerprint", "entities", ["fingerprint"], unique=True)
    op.create_table(
        "networks",
        sa.Column("pn_id", sa.Text, primary_key=True),
        sa.Column("gateway_id", sa.Text, sa.ForeignKey("entities.entity_id"), nullable=False),
        sa.Column("alias", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("networks_gateway", "networks", ["gateway_id"], unique=True)
    op.create_table(
        "members",
        sa.Column("pne_id", sa.Text, sa.ForeignKey("entities.entity_id"), primary_key=True),
        sa.Column("pn_id", sa.Text, sa.ForeignKey("networks.pn_id"), nullable=False),
        sa.Column("pan_secure", sa.Boolean, nullable=False),
    )
    op.create_index("members_by_pn", "members", ["pn_id"])


def _records() -> None:
    op.create_table(
        "readings",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("pne_id", sa.Text, nullable=False),
        sa.Column("reading_id", sa.LargeBinary, nullable=False),
        sa.Column("gateway_id", sa.Text, nullable=False),
        sa.Column("verified", sa.Text, nullable=False),
        sa.Column("received_at", sa.Double, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("readings_once", "readings", ["pne_id", "reading_id"], unique=True)
    op.create_table(
        "audit",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("entity_id", sa.Text, nullable=False),
        sa.Column("via", sa.Text),
        sa.Column("result", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("audit_by_entity", "audit", ["entity_id", "number"])
    op.create_table(
        "meta",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "local_eukeys",
        sa.Column("pne_id", sa.Text, primary_key=True),
        sa.Column("pn_id", sa.Text, nullable=False),
        sa.Column("th0", sa.LargeBinary, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary, nullable=False),
    )
