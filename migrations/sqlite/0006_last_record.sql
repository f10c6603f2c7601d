-- A fingerprint of the record before next_offset: a topic that was made anew has another one there.
ALTER TABLE entail_progress ADD COLUMN last_record text;
