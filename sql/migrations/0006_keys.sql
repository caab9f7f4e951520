-- Keys act for a user, a team or a customer, are rotated with a grace period, and say when they were used.
ALTER TABLE keys
    ADD COLUMN user_id text,
    ADD COLUMN team text,
    ADD COLUMN customer text,
    ADD COLUMN previous_digest bytea UNIQUE CHECK (octet_length(previous_digest) = 32),
    ADD COLUMN previous_ends_at timestamptz,
    ADD COLUMN last_used_at timestamptz,
    ADD COLUMN last_used_from text,
    ADD CHECK ((previous_digest IS NULL) = (previous_ends_at IS NULL));

-- Limits bind because they are attached to a credential, a user, a team or a customer.
CREATE TABLE attachments (
    application_id  uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('credential', 'user', 'team', 'customer')),
    name            text NOT NULL,
    limit_id        text NOT NULL,
    attached_at     timestamptz NOT NULL,
    PRIMARY KEY (application_id, kind, name, limit_id),
    FOREIGN KEY (application_id, limit_id) REFERENCES limits ON DELETE CASCADE
);
CREATE INDEX attachments_by_limit ON attachments (application_id, limit_id);
