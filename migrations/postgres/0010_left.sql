-- Of a key change that left rows behind: the references of which none stayed, as a JSON list. Nothing is known where it is NULL.
ALTER TABLE entail_moves ADD COLUMN seen_to text;
