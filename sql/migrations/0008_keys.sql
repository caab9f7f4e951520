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

CREATE FUNCTION unbind_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE keys SET limit_ids = array_remove(limit_ids, OLD.limit_id)
    WHERE application_id = OLD.application_id AND OLD.limit_id = ANY (limit_ids);
    RETURN NULL;
END
$$;
CREATE TRIGGER unbinds AFTER DELETE ON limits FOR EACH ROW EXECUTE FUNCTION unbind_keys();
DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION unbind_keys() SECURITY DEFINER SET search_path = %I, pg_temp', current_schema());
END
$$;

DROP TRIGGER audited ON keys;
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON keys
    FOR EACH ROW EXECUTE FUNCTION audit_change(
        'key', 'key_id', 'digest,previous_digest', 'last_used_at,last_used_from');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON attachments
    FOR EACH ROW EXECUTE FUNCTION audit_change('attachment', 'limit_id', '', '');

ALTER TABLE attachments ENABLE ROW LEVEL SECURITY;
ALTER TABLE attachments FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON attachments TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON attachments TO xproxy_tenant USING (application_id = tenant());
GRANT SELECT ON attachments TO xproxy_tenant;
