-- What a row became when it was changed and not removed, as an image and a key: undo sets back only what still is as entail left it.
ALTER TABLE entail_archive ADD COLUMN after TEXT;
ALTER TABLE entail_archive ADD COLUMN after_key TEXT;
-- When the row was put back.
ALTER TABLE entail_archive ADD COLUMN undone_at TEXT;
-- Undo goes on to the cascades of the rows that a cascade took.
CREATE INDEX entail_cascades_root ON entail_cascades (root_entity, root_key);
-- The parent's columns that the root's key is of: JSON list.
ALTER TABLE entail_cascades ADD COLUMN root_columns TEXT NOT NULL DEFAULT '[]';
-- Where the source made the change that the root's record tells of; empty if unknown.
ALTER TABLE entail_cascades ADD COLUMN root_source TEXT NOT NULL DEFAULT '';
-- Roots that were undone: what their topic had said of them until then does not cascade again.
CREATE TABLE entail_undone (
    group_id    TEXT NOT NULL,
    entity      TEXT NOT NULL,
    columns     TEXT NOT NULL,              -- JSON list: the parent's columns
    root_key    TEXT NOT NULL,              -- JSON list
    topic       TEXT NOT NULL,
    "partition" INTEGER NOT NULL,
    source      TEXT NOT NULL,              -- changes behind this position of the source's log are news; empty if unknown
    below       INTEGER NOT NULL,              -- without such a position: records at this offset and above are news
    at          TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (group_id, entity, columns, root_key, topic, "partition")
);
