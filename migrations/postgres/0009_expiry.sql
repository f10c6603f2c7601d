-- What has expired is found by the moment at which it does; what has not is not looked at.
DROP INDEX entail_archive_age;
CREATE INDEX entail_archive_expiry ON entail_archive (group_id, (extract(epoch FROM archived_at AT TIME ZONE 'UTC') + keep_seconds));
CREATE INDEX entail_moves_age ON entail_moves (group_id, at);
