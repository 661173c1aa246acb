"""The audit log is read by people alone: what was decided on it has tables of its own, so it can be pruned."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "last_results",
        sa.Column("entity_id", sa.Text, sa.ForeignKey("entities.entity_id"), primary_key=True),
        sa.Column("at", sa.Double),
        sa.Column("result", sa.Integer),
        sa.Column("reason", sa.Text),
        sa.Column("via", sa.Text),
    )
    op.execute("INSERT INTO last_results (entity_id) SELECT entity_id FROM entities")
    op.execute(
        "UPDATE last_results SET at = newest.at, result = newest.result, reason = newest.reason, via = newest.via"
        " FROM (SELECT entity_id, at, result, reason, via FROM audit WHERE number IN (SELECT max(number) FROM audit"
        " WHERE event IN ('gateway_activated', 'pne_established', 'cm_activated', 'refused') GROUP BY entity_id)"
        " AND event <> 'pne_established')"
        " AS newest WHERE newest.entity_id = last_results.entity_id"
    )
    _keep_what_gateways_held()
    _follow_who_is_out()
    _count_attempts()


def _keep_what_gateways_held() -> None:
    op.create_table(
        "held_through",
        sa.Column("pne_id", sa.Text, primary_key=True),
        sa.Column("gateway_id", sa.Text, primary_key=True),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("last_at", sa.Double, nullable=False),
        sa.Column("establishments", sa.BigInteger, nullable=False),
    )
    op.execute(
        "INSERT INTO held_through SELECT entity_id, via, min(at), max(at), count(*) FROM audit"
        " WHERE event = 'pne_established' AND via IS NOT NULL GROUP BY via, entity_id"
    )


def _follow_who_is_out() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "revocations",
        sa.Column("number", number, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("entity_id", sa.Text, nullable=False),
        sa.Column("via", sa.Text),
        sqlite_autoincrement=True,
    )


def _count_attempts() -> None:
    """Take over how often who waits has tried."""
    op.add_column("standings", sa.Column("last_at", sa.Double))
    op.add_column("standings", sa.Column("attempts", sa.BigInteger, nullable=False, server_default="0"))
    audit = sa.table("audit", *(sa.column(name) for name in ("entity_id", "via", "event", "reason", "at", "times")))
    standings = sa.table(
        "standings", *(sa.column(name) for name in ("pne_id", "via", "standing", "last_at", "attempts"))
    )
    tried = (
        (audit.c.entity_id == standings.c.pne_id)
        & (audit.c.via == standings.c.via)
        & (audit.c.event == "refused")
        & (audit.c.reason == "pending_approval")
    )
    attempts = sa.select(sa.func.coalesce(sa.cast(sa.func.sum(audit.c.times), sa.BigInteger), 0)).where(tried)
    op.execute(
        standings.update()
        .where(standings.c.standing == "pending")
        .values(
            last_at=sa.select(sa.func.max(audit.c.at)).where(tried).scalar_subquery(),
            attempts=attempts.scalar_subquery(),
        )
    )
