"""Service groups and their lists."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "groups",
        sa.Column("sg_id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("service", sa.Text),
        sa.Column("owner", sa.Text, sa.ForeignKey("entities.entity_id"), nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("groups_by_name", "groups", ["name"], unique=True)
    op.create_table(
        "group_places",
        sa.Column("sg_id", sa.Text, sa.ForeignKey("groups.sg_id"), primary_key=True),
        sa.Column("pne_id", sa.Text, primary_key=True),
        sa.Column("standing", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("group_places_by_pne", "group_places", ["pne_id"])
