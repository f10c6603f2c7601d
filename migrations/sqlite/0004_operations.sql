-- What people decided: who reads the ledger later can tell why a reference stood still, or was let go.
CREATE TABLE entail_decisions (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id TEXT NOT NULL,
    scope    TEXT NOT NULL,                   -- everything, reference:NAME or partition:TOPIC[N]
    decision TEXT NOT NULL,                   -- pause, resume or release
    reason   TEXT NOT NULL,
    detail   TEXT NOT NULL,
    at       TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);

-- Rows that the parked roots of a released reference may still touch: what a person has looked at. For a day.
CREATE TABLE entail_allowances (
    group_id  TEXT   NOT NULL,
    reference TEXT   NOT NULL,
    "rows"    INTEGER NOT NULL,
    at        TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (group_id, reference)
);

-- Rows that a reference in shadow would have changed.
CREATE TABLE entail_shadow (
    group_id  TEXT   NOT NULL,
    reference TEXT   NOT NULL,
    "rows"    INTEGER NOT NULL,
    since     TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    last_at   TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (group_id, reference)
);
