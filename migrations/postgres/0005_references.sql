-- References that this group has run with. One that it has not stays in shadow until a person promotes it.
CREATE TABLE entail_references (
    group_id  text   NOT NULL,
    reference text   NOT NULL,
    shape     text   NOT NULL,              -- hash of what it joins: tables, columns, conditions; its actions may change
    is_new    bigint NOT NULL,              -- 1: in shadow until it is promoted
    since     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, reference)
);
