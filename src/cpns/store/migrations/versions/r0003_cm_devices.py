"""Changing-Mode devices: at the server what they are, at a CM Device its keys."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE entities RENAME COLUMN sealed_eukey TO sealed_key")  # a CM Device has no EUKey
    op.create_table(
        "cm_devices",
        sa.Column("cm_device_id", sa.Text, sa.ForeignKey("entities.entity_id"), primary_key=True),
        sa.Column("gateway_id", sa.Text, sa.ForeignKey("entities.entity_id"), nullable=False),
        sa.Column("pne_id", sa.Text, sa.ForeignKey("entities.entity_id"), nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("sealed_next", sa.LargeBinary),
        sa.Column("rotation_due", sa.Boolean, nullable=False),
        sa.Column("reassign", sa.Boolean, nullable=False),
        sa.Column("activated_at", sa.Double),
    )
    op.create_index("cm_devices_by_pne", "cm_devices", ["pne_id"])
    op.create_table(
        "cm_keys",
        sa.Column("cm_device_id", sa.Text, primary_key=True),
        sa.Column("generation", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("sealed_key", sa.LargeBinary, nullable=False),
    )
