-- The ledger of entail: bookkeeping beside the rows that it guards, written in the same transactions. Plain SQL reads it; entail alone writes it.

-- How far each partition is durable in this database. The epoch fences workers that lost the partition.
CREATE TABLE entail_progress (
    group_id    TEXT        NOT NULL,
    topic       TEXT        NOT NULL,
    "partition" INTEGER     NOT NULL,
    epoch       INTEGER     NOT NULL,
    next_offset INTEGER     NOT NULL,
    rules       TEXT        NOT NULL,           -- fingerprint of the rules of the worker that took the partition last
    updated_at  TEXT        NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (group_id, topic, "partition")
);

-- Which databases and which Kafka cluster this ledger belongs to. Another identity halts the worker.
CREATE TABLE entail_identity (
    group_id TEXT NOT NULL,
    name     TEXT NOT NULL,                     -- 'kafka', or a service
    identity TEXT NOT NULL,
    PRIMARY KEY (group_id, name)
);

-- Rows as they were before entail removed or changed them.
CREATE TABLE entail_archive (
    id            INTEGER     PRIMARY KEY AUTOINCREMENT,
    cascade_id    TEXT        NOT NULL,         -- see entail_cascades
    entity        TEXT        NOT NULL,
    reference     TEXT        NOT NULL,
    action        TEXT        NOT NULL,
    row_key       TEXT        NOT NULL,         -- JSON list
    shape         TEXT        NOT NULL,         -- see entail_shapes
    image         TEXT        NOT NULL,         -- the row's text form: a JSON list of SQL literals
    group_id      TEXT        NOT NULL,
    keep_seconds  INTEGER     NOT NULL,
    archived_at   TEXT        NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX entail_archive_cascade ON entail_archive (cascade_id);
CREATE INDEX entail_archive_row ON entail_archive (entity, row_key);
CREATE INDEX entail_archive_age ON entail_archive (archived_at);

-- The column lists that row images were written with, once per shape of a table.
CREATE TABLE entail_shapes (
    shape   TEXT PRIMARY KEY,
    entity  TEXT NOT NULL,
    columns TEXT NOT NULL                       -- JSON list
);

-- The audit: one line per root that changed rows in this database, and per reference through which it did.
CREATE TABLE entail_cascades (
    cascade_id   TEXT        NOT NULL,
    reference    TEXT        NOT NULL,
    action       TEXT        NOT NULL,
    "rows"       INTEGER     NOT NULL,
    root_entity  TEXT        NOT NULL,
    root_key     TEXT        NOT NULL,          -- JSON list
    cause        TEXT        NOT NULL,          -- topic[partition]@offset
    group_id     TEXT        NOT NULL,
    at           TEXT        NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (cascade_id, reference, action)
);
CREATE INDEX entail_cascades_age ON entail_cascades (at);

-- Roots that wait or are parked, tried again by the owner of their partition.
CREATE TABLE entail_pending (
    group_id    TEXT        NOT NULL,
    entity      TEXT        NOT NULL,
    columns     TEXT        NOT NULL,           -- JSON list: the parent's columns
    root_key    TEXT        NOT NULL,           -- JSON list
    reason      TEXT        NOT NULL,
    detail      TEXT        NOT NULL,
    kind        TEXT        NOT NULL,           -- what the event said: gone, hint or moved
    topic       TEXT        NOT NULL,
    "partition" INTEGER     NOT NULL,
    "offset"    INTEGER     NOT NULL,
    known_partition INTEGER  NOT NULL,           -- 1: the key's own partition is the one above
    source      TEXT,                           -- position in the source's log, if known
    rules       TEXT        NOT NULL,
    since       TEXT        NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (group_id, entity, columns, root_key)
);
CREATE INDEX entail_pending_partition ON entail_pending (group_id, topic, "partition");

-- Key changes: what no table holds any more. Followed when children are found under an old key.
CREATE TABLE entail_moves (
    group_id TEXT        NOT NULL,
    entity   TEXT        NOT NULL,
    old_key  TEXT        NOT NULL,              -- JSON list; empty: only the new value is known, of the change at this position
    new_key  TEXT        NOT NULL,              -- JSON list; empty if it could not be read
    source   TEXT        NOT NULL,              -- position in the source's log; empty if unknown
    cause    TEXT        NOT NULL,
    state    TEXT        NOT NULL,              -- open, done, or superseded by a later event on the old key
    at       TEXT        NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (group_id, entity, old_key, new_key, source)
);

-- References and partitions that are shut until a person releases them.
CREATE TABLE entail_latches (
    group_id    TEXT        NOT NULL,
    scope       TEXT        NOT NULL,           -- reference:NAME or partition:TOPIC[N]
    reason      TEXT        NOT NULL,
    detail      TEXT        NOT NULL,
    since       TEXT        NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (group_id, scope)
);

-- Rows touched per reference in the running window.
CREATE TABLE entail_windows (
    group_id   TEXT        NOT NULL,
    reference  TEXT        NOT NULL,
    started_at TEXT        NOT NULL,
    "rows"     INTEGER     NOT NULL,
    PRIMARY KEY (group_id, reference)
);

-- The newest event that each copied row was written from, so that an older one never overwrites it.
CREATE TABLE entail_replica_rows (
    group_id TEXT   NOT NULL,
    replica  TEXT   NOT NULL,
    row_key  TEXT   NOT NULL,                   -- JSON list
    source   TEXT   NOT NULL,                   -- position in the source's log; empty if unknown
    gone     INTEGER NOT NULL,                   -- 1: the row was deleted at that position
    PRIMARY KEY (group_id, replica, row_key)
);
