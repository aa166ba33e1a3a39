"""The database notes what alters a network's states and is not in the change log.

A state is deleted, or a placement goes, or comes to belong to another network: `states_moved` in
`store_properties` gets another value of chance, in the same transaction.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

_SQLITE_NOTE = """
    INSERT INTO store_properties (name, value)
    VALUES ('states_moved', lower(hex(randomblob(16))))
    ON CONFLICT (name) DO UPDATE SET value = excluded.value;
"""

_SQLITE_TRIGGERS = {
    "agent_states_deleted": "AFTER DELETE ON agent_states",
    "agent_states_renamed": "AFTER UPDATE OF agent_id ON agent_states",
    "placements_deleted": "AFTER DELETE ON placements",
    "placements_moved": """AFTER UPDATE OF agent_id, network_id ON placements
        WHEN OLD.network_id <> NEW.network_id OR OLD.agent_id <> NEW.agent_id""",
}

# Once in a transaction: one that moves thousands must not write one row thousands of times.
_POSTGRES_NOTE = """
CREATE FUNCTION stateroom_note_moved_states() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('stateroom.moved_in', true) IS DISTINCT FROM txid_current()::text THEN
        PERFORM set_config('stateroom.moved_in', txid_current()::text, true);
        INSERT INTO store_properties (name, value)
        VALUES ('states_moved', md5(random()::text || clock_timestamp()::text || txid_current()))
        ON CONFLICT (name) DO UPDATE SET value = excluded.value;
    END IF;
    RETURN NULL;
END $$
"""

_POSTGRES_TRIGGERS = {
    "agent_states_deleted": "AFTER DELETE OR TRUNCATE ON agent_states FOR EACH STATEMENT",
    "agent_states_renamed": "AFTER UPDATE OF agent_id ON agent_states FOR EACH ROW",
    "placements_deleted": "AFTER DELETE OR TRUNCATE ON placements FOR EACH STATEMENT",
    "placements_moved": """AFTER UPDATE OF agent_id, network_id ON placements FOR EACH ROW
        WHEN (OLD.network_id <> NEW.network_id OR OLD.agent_id <> NEW.agent_id)""",
}


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for name, when in _SQLITE_TRIGGERS.items():
            op.execute(f"CREATE TRIGGER {name} {when} BEGIN {_SQLITE_NOTE} END")
        return
    op.execute(_POSTGRES_NOTE)
    for name, when in _POSTGRES_TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION stateroom_note_moved_states()")
