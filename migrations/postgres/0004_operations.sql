-- What people decided: who reads the ledger later can tell why a reference stood still, or was let go.
CREATE TABLE entail_decisions (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id text NOT NULL,
    scope    text NOT NULL,                   -- everything, reference:NAME or partition:TOPIC[N]
    decision text NOT NULL,                   -- pause, resume or release
    reason   text NOT NULL,
    detail   text NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
);

-- Rows that the parked roots of a released reference may still touch: what a person has looked at. For a day.
CREATE TABLE entail_allowances (
    group_id  text   NOT NULL,
    reference text   NOT NULL,
    "rows"    bigint NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, reference)
);

-- Rows that a reference in shadow would have changed.
CREATE TABLE entail_shadow (
    group_id  text   NOT NULL,
    reference text   NOT NULL,
    "rows"    bigint NOT NULL,
    since     timestamptz NOT NULL DEFAULT now(),
    last_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, reference)
);
