-- The transaction that took a row, which no SQLite database names, and the one that the root's last event tells of: a cascade that began at a row
-- which was taken belongs to the taking only if they are one. The last record that named the root holds its row as it went,
-- unless its key changed.
ALTER TABLE entail_archive ADD COLUMN transaction_id text;
ALTER TABLE entail_cascades ADD COLUMN root_transaction text;
ALTER TABLE entail_cascades ADD COLUMN root_last text;
ALTER TABLE entail_cascades ADD COLUMN root_moved text;
