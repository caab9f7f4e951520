-- Keys have rate limits: requests and tokens per minute, calls at once.
ALTER TABLE keys ADD COLUMN rate_limits jsonb NOT NULL DEFAULT '{}';
