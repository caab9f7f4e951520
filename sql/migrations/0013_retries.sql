-- How often the caller's SDK had tried before; null: it does not say.
ALTER TABLE usage ADD COLUMN retry_count integer;
