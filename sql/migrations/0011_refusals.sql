-- A refusal keeps the numbers that proved it.
ALTER TABLE usage ADD COLUMN refusals jsonb;
CREATE INDEX usage_by_refusal ON usage (application_id, request_id) WHERE refusals IS NOT NULL;
