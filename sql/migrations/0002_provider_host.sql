-- Callers may choose whom they call: such a call records the host.
ALTER TABLE usage ADD COLUMN provider_host text;
