-- What has expired is found by the moment at which it does; images that have not are not looked at.
CREATE INDEX entail_archive_expiry ON entail_archive (group_id, CAST(strftime('%s', archived_at) AS INTEGER) + keep_seconds);
CREATE INDEX entail_moves_age ON entail_moves (group_id, at);
DROP INDEX entail_archive_age;
