"""Each row of the audit log says who did it, and no number of a row is given twice."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_ITSELF = ("pne_established", "pne_moved", "sg_created", "pn_declined", "sg_declined", "sg_owner_declined")
_GATEWAY_ITSELF = ("gateway_activated", "cm_activated", "cm_rekeyed")
_BY_GATEWAY = ("cm_assigned", "cm_released")
_BY_WHOM = (
    *("invited", "approved", "barred", "left", "expelled", "pn_released", "pn_gw_switched", "pn_settled"),
    *("sg_joined", "sg_waits", "sg_invited", "sg_left", "sg_expelled", "sg_deleted", "sg_owner_changed", "sg_settled"),
    *("pn_declined", "sg_declined", "sg_owner_declined"),
)
"""Their *via* was who decided; none was the operator."""
_BY_OPERATOR = ("provisioned", "revoked", "settled", "bound", "set_back", "cm_rotation_asked", *_BY_WHOM)

_audit = sa.table("audit", *(sa.column(name) for name in ("event", "entity_id", "via", "role", "actor")))
_entities = sa.table("entities", sa.column("entity_id"), sa.column("kind"))


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _made_anew()
    else:
        for name in ("role", "actor"):
            op.add_column("audit", sa.Column(name, sa.Text, nullable=False, server_default="server"))
        for name in ("digest", "previous"):
            op.add_column("audit", sa.Column(name, sa.LargeBinary))
    _say_who()


def _made_anew() -> None:
    """Make the table once more: SQLite numbers rows as we want it where a table does so from its start alone."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.drop_index("audit_by_entity", "audit")
    op.rename_table("audit", "older_audit")
    op.create_table(
        "audit",
        sa.Column("number", number, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("entity_id", sa.Text, nullable=False),
        sa.Column("via", sa.Text),
        sa.Column("result", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("times", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("role", sa.Text, nullable=False, server_default="server"),
        sa.Column("actor", sa.Text, nullable=False, server_default="server"),
        sa.Column("digest", sa.LargeBinary),
        sa.Column("previous", sa.LargeBinary),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_by_entity", "audit", ["entity_id", "number"])
    op.execute(
        "INSERT INTO audit (number, at, event, entity_id, via, result, reason, times)"
        " SELECT number, at, event, entity_id, via, result, reason, times FROM older_audit ORDER BY number"
    )
    op.drop_table("older_audit")


def _say_who() -> None:
    """Say of older rows who it was, as far as that is known."""
    at, of = _audit.c, _audit.update()
    op.execute(of.where(at.event.in_(_ITSELF)).values(role="pne", actor=at.entity_id))
    op.execute(of.where(at.event.in_(_GATEWAY_ITSELF)).values(role="gateway", actor=at.entity_id))
    op.execute(of.where(at.event.in_(_BY_GATEWAY), at.via.is_not(None)).values(role="gateway", actor=at.via))
    op.execute(of.where(at.event.in_(_BY_OPERATOR), at.via.is_(None)).values(role="admin", actor="local"))
    is_gateway = sa.exists().where(_entities.c.entity_id == at.via, _entities.c.kind != "pne")
    role = sa.case((is_gateway, "gateway"), else_="pne")
    op.execute(of.where(at.event.in_(_BY_WHOM), at.via.is_not(None)).values(role=role, actor=at.via, via=None))
