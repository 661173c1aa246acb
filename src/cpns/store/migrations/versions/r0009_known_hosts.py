"""Hosts from which somebody proved itself."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "known_hosts",
        sa.Column("host", sa.Text, primary_key=True),
        sa.Column("proved_at", sa.Double, nullable=False),
    )
