-- Providers' credentials are stored sealed, and our own random keys wrapped; `schema.sql` has the reasons.
CREATE TABLE secrets (
    name            text PRIMARY KEY,
    wrapped         bytea NOT NULL,
    wrapped_by      text NOT NULL
);

CREATE FUNCTION master_in_force() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$
    SELECT wrapped_by FROM secrets WHERE name = 'key pepper' FOR SHARE
$$;
DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION master_in_force() SET search_path = %I, pg_temp', current_schema());
END
$$;

CREATE TABLE credentials (
    credential_id   uuid PRIMARY KEY,
    application_id  uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    slug            text NOT NULL CHECK (slug ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    name            text NOT NULL,
    provider        text NOT NULL,
    origin          text,
    is_default      boolean NOT NULL DEFAULT false,
    blocked         boolean NOT NULL DEFAULT false,
    sealed          bytea,
    row_key         bytea,
    wrapped_by      text,
    last4           text,
    secret_at       timestamptz,
    created_at      timestamptz NOT NULL,
    created_by      text NOT NULL,
    updated_at      timestamptz NOT NULL,
    UNIQUE (application_id, slug),
    CHECK (num_nulls(sealed, row_key, wrapped_by, last4, secret_at) IN (0, 5))
);
CREATE INDEX credentials_by_age ON credentials (application_id, created_at, credential_id);
CREATE UNIQUE INDEX default_credentials ON credentials (application_id, provider) WHERE is_default;

CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON credentials
    FOR EACH ROW EXECUTE FUNCTION
    audit_change('credential', 'slug', 'sealed,row_key', 'row_key,wrapped_by,updated_at');

ALTER TABLE credentials ENABLE ROW LEVEL SECURITY;
ALTER TABLE credentials FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON credentials TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON credentials TO xproxy_tenant USING (application_id = tenant());
GRANT INSERT, DELETE ON credentials TO xproxy_tenant;
GRANT SELECT (
    credential_id, application_id, slug, name, provider, origin, is_default, blocked, last4, secret_at,
    created_at, created_by, updated_at
) ON credentials TO xproxy_tenant;
GRANT UPDATE (
    name, origin, is_default, blocked, sealed, row_key, wrapped_by, last4, secret_at, updated_at
) ON credentials TO xproxy_tenant;
