-- lock_migrations --
-- Wait until no other process migrates this database.
SELECT pg_advisory_lock(hashtext('xproxy.migrations'));

-- create_schema_migrations --
-- Make the table that says which steps were taken, on an empty database.
CREATE TABLE IF NOT EXISTS schema_migrations (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    sha256      text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);

-- read_schema_migrations --
-- Which steps were taken, with the checksums they had.
SELECT version, name, sha256 FROM schema_migrations ORDER BY version;

-- record_migration --
-- Note a step, in the transaction that takes it.
INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3);
