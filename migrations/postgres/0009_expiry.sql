-- What has expired is found by the moment at which it does; images that have not are not looked at. The archive may be large.
SET LOCAL statement_timeout = 0;
CREATE INDEX entail_archive_expiry ON entail_archive (group_id, (date_part('epoch', archived_at AT TIME ZONE 'UTC') + keep_seconds));
CREATE INDEX entail_moves_age ON entail_moves (group_id, at);
DROP INDEX entail_archive_age;
