"""Who may own a network is provisioned, or named: an owner that there is counts as named."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("entities", sa.Column("may_own", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("networks", sa.Column("expelled_at", sa.Double, nullable=False, server_default="0"))
