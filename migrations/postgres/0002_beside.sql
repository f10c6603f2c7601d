-- The other unique values of a pending root's parent row: JSON list of [columns, values]. What holds one of them back holds the root.
ALTER TABLE entail_pending ADD COLUMN beside text NOT NULL DEFAULT '[]';
