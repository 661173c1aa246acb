"""Member lists, owners, versions; strangers; pushes that wait; a PN GW may serve several PNs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _networks()
    _waiting()
    _gateway()


def _networks() -> None:
    op.drop_index("networks_gateway", "networks")
    op.create_index("networks_by_gateway", "networks", ["gateway_id"])
    op.add_column("networks", sa.Column("owner", sa.Text))
    op.add_column("networks", sa.Column("policy", sa.Text, nullable=False, server_default="open"))
    op.add_column("networks", sa.Column("version", sa.BigInteger, nullable=False, server_default="1"))
    op.add_column("networks", sa.Column("served_since", sa.Double, nullable=False, server_default="0"))
    op.add_column("members", sa.Column("since", sa.Double, nullable=False, server_default="0"))
    op.create_table(
        "standings",
        sa.Column("pne_id", sa.Text, primary_key=True),
        sa.Column("pn_id", sa.Text, sa.ForeignKey("networks.pn_id"), primary_key=True),
        sa.Column("standing", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("via", sa.Text),
    )
    op.create_index("standings_by_pn", "standings", ["pn_id"])
    # who is in a PN has its home there
    op.execute("INSERT INTO standings (pne_id, pn_id, standing, at) SELECT pne_id, pn_id, 'member', since FROM members")


def _waiting() -> None:
    op.create_table(
        "strangers",
        sa.Column("entity_id", sa.Text, primary_key=True),
        sa.Column("via", sa.Text, nullable=False),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("last_at", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
    )
    op.create_table(
        "pushes",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("push_id", sa.LargeBinary, nullable=False),
        sa.Column("pne_id", sa.Text, sa.ForeignKey("entities.entity_id"), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("pushes_by_pne", "pushes", ["pne_id", "number"])


def _gateway() -> None:
    op.create_table("served", sa.Column("pn_id", sa.Text, primary_key=True))
    op.execute("INSERT INTO served (pn_id) SELECT value FROM meta WHERE key = 'pn_id'")
    op.execute("DELETE FROM meta WHERE key = 'pn_id'")
