-- What a row became when it was changed and not removed, as an image and a key: undo sets back only what still is as entail left it.
ALTER TABLE entail_archive ADD COLUMN after text;
ALTER TABLE entail_archive ADD COLUMN after_key text;
-- When the row was put back.
ALTER TABLE entail_archive ADD COLUMN undone_at timestamptz;
-- Undo goes on to the cascades of the rows that a cascade took.
CREATE INDEX entail_cascades_root ON entail_cascades (root_entity, root_key);
