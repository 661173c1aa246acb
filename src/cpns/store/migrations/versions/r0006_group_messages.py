"""Messages to groups: who sends, how long they are kept, and for whom."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("groups", sa.Column("vouched", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("groups", sa.Column("keep", sa.BigInteger, nullable=False, server_default="86400"))
    op.add_column("group_places", sa.Column("newest", sa.LargeBinary))
    op.create_table(
        "senders",
        sa.Column("pne_id", sa.Text, sa.ForeignKey("entities.entity_id"), primary_key=True),
        sa.Column("run", sa.BigInteger, nullable=False),
        sa.Column("verify_key", sa.LargeBinary),
    )
    op.create_table(
        "group_messages",
        sa.Column("number", _NUMBER, primary_key=True),
        sa.Column("sg_id", sa.Text, sa.ForeignKey("groups.sg_id"), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("seq", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary),
        sa.Column("verify_key", sa.LargeBinary),
        sa.Column("sealed_key", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("group_messages_by_group", "group_messages", ["sg_id"])
    op.create_table(
        "group_messages_owed",
        sa.Column("pne_id", sa.Text, primary_key=True),
        sa.Column(
            "number", sa.BigInteger, sa.ForeignKey("group_messages.number"), primary_key=True, autoincrement=False
        ),
    )
    op.create_index("group_messages_owed_by_number", "group_messages_owed", ["number"])
