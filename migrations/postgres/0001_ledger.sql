-- The ledger of entail: bookkeeping beside the rows that it guards, written in the same transactions. Plain SQL reads it; entail alone writes it.

-- How far each partition is durable in this database. The epoch fences workers that lost the partition.
CREATE TABLE entail_progress (
    group_id    text        NOT NULL,
    topic       text        NOT NULL,
    "partition" bigint      NOT NULL,
    epoch       bigint      NOT NULL,
    next_offset bigint      NOT NULL,
    rules       text        NOT NULL,           -- fingerprint of the rules of the worker that took the partition last
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, topic, "partition")
);

-- Which databases and which Kafka cluster this ledger belongs to. Another identity halts the worker.
CREATE TABLE entail_identity (
    group_id text NOT NULL,
    name     text NOT NULL,                     -- 'kafka', or a service
    identity text NOT NULL,
    PRIMARY KEY (group_id, name)
);

-- Rows as they were before entail removed or changed them.
CREATE TABLE entail_archive (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cascade_id    text        NOT NULL,         -- see entail_cascades
    entity        text        NOT NULL,
    reference     text        NOT NULL,
    action        text        NOT NULL,
    row_key       text        NOT NULL,         -- JSON list
    shape         text        NOT NULL,         -- see entail_shapes
    image         text        NOT NULL,         -- the row's text form
    group_id      text        NOT NULL,
    keep_seconds  bigint      NOT NULL,
    archived_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX entail_archive_cascade ON entail_archive (cascade_id);
CREATE INDEX entail_archive_row ON entail_archive (entity, row_key);
CREATE INDEX entail_archive_age ON entail_archive (archived_at);

-- The column lists that row images were written with, once per shape of a table.
CREATE TABLE entail_shapes (
    shape   text PRIMARY KEY,
    entity  text NOT NULL,
    columns text NOT NULL                       -- JSON list
);

-- The audit: one line per root that changed rows in this database, and per reference through which it did.
CREATE TABLE entail_cascades (
    cascade_id   text        NOT NULL,
    reference    text        NOT NULL,
    action       text        NOT NULL,
    "rows"       bigint      NOT NULL,
    root_entity  text        NOT NULL,
    root_key     text        NOT NULL,          -- JSON list
    cause        text        NOT NULL,          -- topic[partition]@offset
    group_id     text        NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cascade_id, reference, action)
);
CREATE INDEX entail_cascades_age ON entail_cascades (at);

-- Roots that wait or are parked, tried again by the owner of their partition.
CREATE TABLE entail_pending (
    group_id    text        NOT NULL,
    entity      text        NOT NULL,
    columns     text        NOT NULL,           -- JSON list: the parent's columns
    root_key    text        NOT NULL,           -- JSON list
    reason      text        NOT NULL,
    detail      text        NOT NULL,
    kind        text        NOT NULL,           -- what the event said: gone, hint or moved
    topic       text        NOT NULL,
    "partition" bigint      NOT NULL,
    "offset"    bigint      NOT NULL,
    known_partition bigint  NOT NULL,           -- 1: the key's own partition is the one above
    source      text,                           -- position in the source's log, if known
    rules       text        NOT NULL,
    since       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, entity, columns, root_key)
);
CREATE INDEX entail_pending_partition ON entail_pending (group_id, topic, "partition");

-- Key changes: what no table holds any more. Followed when children are found under an old key.
CREATE TABLE entail_moves (
    group_id text        NOT NULL,
    entity   text        NOT NULL,
    old_key  text        NOT NULL,              -- JSON list; empty: only the new value is known, of the change at this position
    new_key  text        NOT NULL,              -- JSON list; empty if it could not be read
    source   text        NOT NULL,              -- position in the source's log; empty if unknown
    cause    text        NOT NULL,
    state    text        NOT NULL,              -- open, done, or superseded by a later event on the old key
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, entity, old_key, new_key, source)
);

-- References and partitions that are shut until a person releases them.
CREATE TABLE entail_latches (
    group_id    text        NOT NULL,
    scope       text        NOT NULL,           -- reference:NAME or partition:TOPIC[N]
    reason      text        NOT NULL,
    detail      text        NOT NULL,
    since       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, scope)
);

-- Rows touched per reference in the running window.
CREATE TABLE entail_windows (
    group_id   text        NOT NULL,
    reference  text        NOT NULL,
    started_at timestamptz NOT NULL,
    "rows"     bigint      NOT NULL,
    PRIMARY KEY (group_id, reference)
);

-- The newest event that each copied row was written from, so that an older one never overwrites it.
CREATE TABLE entail_replica_rows (
    group_id text   NOT NULL,
    replica  text   NOT NULL,
    row_key  text   NOT NULL,                   -- JSON list
    source   text   NOT NULL,                   -- position in the source's log; empty if unknown
    gone     bigint NOT NULL,                   -- 1: the row was deleted at that position
    PRIMARY KEY (group_id, replica, row_key)
);
