"""A PN that is made anew with the ID of one that ended goes on with its versions."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ended_networks",
        sa.Column("pn_id", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.Double, nullable=False),
    )
    op.create_index("ended_networks_by_age", "ended_networks", ["ended_at"])
