"""The ledger's tables, one set for SQLite and PostgreSQL.

What is JSON is kept as text with sorted keys where its bytes are hashed, else as the database's
JSON. Times are milliseconds since 1970 (UTC), for people; the order of rows is `seq`, because
clocks jump. Adding a table or a column means a new entry in `migrations.STEPS`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql

# SQLite counts up only an INTEGER PRIMARY KEY; PostgreSQL's INTEGER would end at 2e9.
_Serial = BigInteger().with_variant(Integer, "sqlite")
# None is SQL NULL and not the JSON text "null".
_Json = JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")

CLOSED_STATES = ("PROMOTED", "REJECTED", "FAILED", "ABANDONED")
FEEDBACK_KINDS = ("thumb", "score", "correction", "comment", "label")
VERDICTS = ("pending", "keep", "drop", "eval_fresh")

tables = MetaData()


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_is_known")


schema_version = Table("schema_version", tables, Column("version", Integer, primary_key=True))

# Where rows come from: the proxy in front of a server, or an importer and its file or address.
source = Table(
    "source",
    tables,
    Column("id", _Serial, primary_key=True),
    Column("kind", String, nullable=False),
    Column("uri", String, nullable=False),
    Column("config", _Json),
    Column("cursor", _Json),
    UniqueConstraint("kind", "uri"),
)

import_batch = Table(
    "import_batch",
    tables,
    Column("id", _Serial, primary_key=True),
    Column("source_id", ForeignKey("source.id"), nullable=False),
    Column("file_sha256", String),
    Column("importer", String, nullable=False),
    Column("importer_version", Integer, nullable=False),
    Column("seen", Integer, nullable=False, server_default="0"),
    Column("imported", Integer, nullable=False, server_default="0"),
    Column("duplicate", Integer, nullable=False, server_default="0"),
    Column("rejected", Integer, nullable=False, server_default="0"),
    Column("state", String, nullable=False, server_default="open"),
    Column("started_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    _one_of("state", ("open", "done")),
    CheckConstraint(
        "state <> 'done' OR seen = imported + duplicate + rejected", name="every_row_is_counted"
    ),
)

import_reject = Table(
    "import_reject",
    tables,
    Column("batch_id", ForeignKey("import_batch.id"), nullable=False),
    Column("row_no", Integer, nullable=False),
    Column("place", String),
    Column("reason", Text, nullable=False),
    Column("raw", Text),
    PrimaryKeyConstraint("batch_id", "row_no"),
)

# One question to a model and its answer, with the conversation before it.
exchange = Table(
    "exchange",
    tables,
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("rid", String, nullable=False, unique=True),
    Column("source_id", ForeignKey("source.id"), nullable=False),
    Column("ext_id", String, nullable=False, server_default=""),
    Column("batch_id", ForeignKey("import_batch.id")),
    Column("ts_ms", BigInteger, nullable=False),
    Column("route", String),
    Column("model", String),
    Column("model_digest", String),
    Column("chat_id", String, index=True),
    Column("message_id", String, index=True),
    Column("user_hmac", String, index=True),
    Column("task", String),
    Column("origin", String, nullable=False),
    Column("http_status", Integer),
    Column("complete", Boolean, nullable=False),
    Column("done_reason", String),
    Column("messages", _Json, nullable=False),
    Column("tools", _Json),
    Column("question", Text, nullable=False),
    Column("question_sha256", String, nullable=False, index=True),
    Column("contexts", _Json),
    Column("context_extractor", String),
    Column("answer", Text, nullable=False),
    Column("thinking", Text),
    Column("tool_calls", _Json),
    Column("usage", _Json),
    Column("latency_ms", Float),
    Column("ttft_ms", Float),
    Column("content_sha256", String, nullable=False),
    Column("raw", Text),
    Column("consent", String),
    Column("expires_ms", BigInteger),
    Column("deleted_ms", BigInteger),
    UniqueConstraint("source_id", "ext_id", "content_sha256"),
    _one_of("origin", ("model", "human", "correction")),
    sqlite_autoincrement=True,
)

feedback = Table(
    "feedback",
    tables,
    Column("id", _Serial, primary_key=True),
    Column("rid", ForeignKey("exchange.rid"), nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("value", Float),
    Column("text", Text),
    Column("actor_hmac", String),
    Column("origin", String, nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
    UniqueConstraint("rid", "kind", "origin", "ts_ms"),
    _one_of("kind", FEEDBACK_KINDS),
)

# Feedback whose exchange is not here (yet): joined when it comes.
feedback_waiting = Table(
    "feedback_waiting",
    tables,
    Column("id", _Serial, primary_key=True),
    Column("chat_id", String),
    Column("message_id", String, index=True),
    Column("kind", String, nullable=False),
    Column("value", Float),
    Column("text", Text),
    Column("actor_hmac", String),
    Column("origin", String, nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
    UniqueConstraint("message_id", "kind", "origin", "ts_ms"),
    _one_of("kind", FEEDBACK_KINDS),
)

supersede = Table(
    "supersede",
    tables,
    Column("old_rid", ForeignKey("exchange.rid"), primary_key=True),
    Column("new_rid", ForeignKey("exchange.rid"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
)

eval_set = Table(
    "eval_set",
    tables,
    Column("name", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("sha256", String, nullable=False),
    Column("frozen_ms", BigInteger, nullable=False),
    Column("note", Text),
    PrimaryKeyConstraint("name", "version"),
)

eval_item = Table(
    "eval_item",
    tables,
    Column("set_name", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("item_id", String, nullable=False),
    Column("question_sha256", String, nullable=False, index=True),
    Column("prompt", _Json, nullable=False),
    Column("reference", Text),
    Column("keyfacts", _Json),
    Column("tags", _Json),
    Column("rid", ForeignKey("exchange.rid")),
    PrimaryKeyConstraint("set_name", "version", "item_id"),
)

# A cycle of one line (an alias in Ollama): what the state machine of `cycle` goes through.
run = Table(
    "run",
    tables,
    Column("run_id", String, primary_key=True),
    Column("line", String, nullable=False),
    Column("state", String, nullable=False),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("parent_run", String),
    Column("base_ref", String, nullable=False),
    Column("base_sha256", String, nullable=False),
    Column("config", _Json, nullable=False),
    Column("config_sha256", String, nullable=False),
    Column("record_set_sha256", String),
    Column("code_version", String, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("error", Text),
)

_OPEN = "state NOT IN ({})".format(", ".join(f"'{state}'" for state in CLOSED_STATES))
Index(
    "one_open_run",
    run.c.line,
    unique=True,
    sqlite_where=text(_OPEN),
    postgresql_where=text(_OPEN),
)

run_event = Table(
    "run_event",
    tables,
    Column("run_id", ForeignKey("run.run_id"), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("ts_ms", BigInteger, nullable=False),
    Column("from_state", String, nullable=False),
    Column("to_state", String, nullable=False),
    Column("detail", Text, nullable=False),
    Column("prev_sha256", String, nullable=False),
    Column("sha256", String, nullable=False),
    PrimaryKeyConstraint("run_id", "seq"),
)

run_record = Table(
    "run_record",
    tables,
    Column("run_id", ForeignKey("run.run_id"), nullable=False),
    Column("rid", ForeignKey("exchange.rid"), nullable=False, index=True),
    Column("role", String, nullable=False),
    Column("verdict", String, nullable=False),
    Column("rule", String),
    Column("evidence", _Json),
    Column("samples", _Json),
    PrimaryKeyConstraint("run_id", "rid"),
    _one_of("role", ("new", "replay")),
    _one_of("verdict", VERDICTS),
)

stage_output = Table(
    "stage_output",
    tables,
    Column("run_id", ForeignKey("run.run_id"), nullable=False),
    Column("stage", String, nullable=False),
    Column("path", String, nullable=False),
    Column("sha256", String, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("meta", _Json),
    PrimaryKeyConstraint("run_id", "stage", "path"),
)

eval_result = Table(
    "eval_result",
    tables,
    Column("run_id", String),
    Column("model_ref", String, nullable=False),
    Column("model_digest", String, nullable=False),
    Column("set_name", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("item_id", String, nullable=False),
    Column("output", Text, nullable=False),
    Column("scores", _Json, nullable=False),
    Column("ms", Float),
    Column("rid", String, index=True),  # the held-out exchange that was asked; NULL for other sets
    PrimaryKeyConstraint("model_digest", "set_name", "version", "item_id"),
)

gate_result = Table(
    "gate_result",
    tables,
    Column("run_id", ForeignKey("run.run_id"), nullable=False),
    Column("rule", String, nullable=False),
    Column("value", Float),
    Column("threshold", Float),
    Column("passed", Boolean, nullable=False),
    Column("detail", _Json),
    PrimaryKeyConstraint("run_id", "rule"),
)

deployment = Table(
    "deployment",
    tables,
    Column("id", _Serial, primary_key=True),
    Column("host", String, nullable=False),
    Column("alias", String, nullable=False),
    Column("from_digest", String),
    Column("to_digest", String, nullable=False),
    Column("to_tag", String, nullable=False),
    Column("run_id", String),
    Column("action", String, nullable=False),
    Column("method", String),
    Column("state", String, nullable=False),
    Column("actor", String),
    Column("ts_ms", BigInteger, nullable=False),
    Column("last_seq", BigInteger),  # of a rollback: the newest exchange there was
    _one_of("action", ("publish", "rollback")),
    _one_of("state", ("intent", "applied", "verified", "failed")),
)

# Rows whose text was erased at somebody's wish: what stays is that they were, and who saw them.
erasure = Table(
    "erasure",
    tables,
    Column("rid", String, primary_key=True),
    Column("ts_ms", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("runs", _Json, nullable=False),
    Column("content_hmac", String, index=True),  # so that an old export does not bring it back
)
