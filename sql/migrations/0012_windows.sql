-- Limits count in windows: {every, zone, ...} or {rolling}; null counts until it is reset.
ALTER TABLE limits ADD COLUMN "window" jsonb;
