"""The audit log counts a refusal that comes again."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audit", sa.Column("times", sa.BigInteger, nullable=False, server_default="1"))
