"""Epochs that gather who comes and goes, and what a PNE may do at a pace, or for a time."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("groups", sa.Column("begun", sa.Double, nullable=False, server_default="0"))
    op.add_column("groups", sa.Column("due", sa.Double))
    op.add_column("group_places", sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"))
    op.rename_table("group_keys", "group_keys_before")
    op.create_table(
        "group_keys",
        sa.Column("sg_id", sa.Text, sa.ForeignKey("groups.sg_id"), primary_key=True),
        sa.Column("epoch", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("sealed_key", sa.LargeBinary, nullable=False),
        sa.Column("ended_at", sa.Double),
    )
    op.execute(
        "INSERT INTO group_keys (sg_id, epoch, sealed_key) SELECT b.sg_id, b.epoch, b.sealed_key"
        " FROM group_keys_before b JOIN groups g ON g.sg_id = b.sg_id AND g.epoch = b.epoch"
    )
    op.drop_table("group_keys_before")
    op.create_table(
        "paces",
        sa.Column("pne_id", sa.Text, primary_key=True),
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("times", sa.Integer, nullable=False),
        sa.Column("since", sa.Double, nullable=False),
    )
    op.create_index("paces_by_age", "paces", ["since"])
    op.create_index("groups_by_owner", "groups", ["owner"])
    op.create_index("groups_by_due", "groups", ["due"])
    op.create_index("group_places_by_age", "group_places", ["standing", "at"])
    op.create_index("networks_by_owner", "networks", ["owner"])
    op.create_index("standings_by_age", "standings", ["standing", "at"])
