-- What the tables of the rules were when this group last started: the next start says what is another since.
CREATE TABLE entail_checked (
    group_id text NOT NULL,
    entity   text NOT NULL,                 -- or the replica
    shape    text NOT NULL,                 -- JSON list: columns with types, nulls and defaults, keys, replica identity
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, entity)
);
