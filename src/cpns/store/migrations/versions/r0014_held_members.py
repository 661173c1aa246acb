"""A PN GW keeps where its members are, those on a Secure PAN too, which have no LocalEUKey."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "held_members",
        sa.Column("pne_id", sa.Text, primary_key=True),
        sa.Column("pn_id", sa.Text, nullable=False),
        sa.Column("th0", sa.LargeBinary, nullable=False),
        sa.Column("sealed_key", sa.LargeBinary),
        sa.Column("own", sa.Text),
        sa.Column("there", sa.Text),
    )
    op.execute(
        "INSERT INTO held_members (pne_id, pn_id, th0, sealed_key) "
        "SELECT pne_id, pn_id, th0, sealed_key FROM local_eukeys"
    )
    op.drop_table("local_eukeys")
