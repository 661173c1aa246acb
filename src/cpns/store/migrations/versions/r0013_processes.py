"""Each process of a server says in the store that it is there."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "processes",
        sa.Column("process_id", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("listening", sa.Text, nullable=False),
        sa.Column("bus", sa.Text),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("ahead", sa.Double, nullable=False),
        sa.Column("heeded", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
    )
