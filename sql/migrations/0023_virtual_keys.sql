-- Keys that call some models only, by other names, with tags; and teams, users, customers and budgets as
-- LiteLLM's routes have them. `schema.sql` has the reasons.
ALTER TABLE keys
    ADD COLUMN models text[] NOT NULL DEFAULT '{}',
    ADD COLUMN aliases jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN tags text[] NOT NULL DEFAULT '{}',
    ADD COLUMN terms jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN details jsonb NOT NULL DEFAULT '{}';
GRANT SELECT (
    user_id, team, customer, previous_ends_at, last_used_at, last_used_from, rate_limits, models, aliases,
    tags, terms, details
) ON keys TO xproxy_tenant;

CREATE TABLE profiles (
    application_id  uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    kind            text NOT NULL CHECK (kind IN ('budget', 'team', 'user', 'customer')),
    name            text NOT NULL,
    blocked         boolean NOT NULL DEFAULT false,
    models          text[] NOT NULL DEFAULT '{}',
    rate_limits     jsonb NOT NULL DEFAULT '{}',
    terms           jsonb NOT NULL DEFAULT '{}',
    details         jsonb NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (application_id, kind, name)
);
CREATE INDEX profiles_by_age ON profiles (application_id, kind, created_at, name);

CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON profiles
    FOR EACH ROW EXECUTE FUNCTION audit_change('profile', 'name', '', 'updated_at');

ALTER TABLE profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE profiles FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON profiles TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON profiles TO xproxy_tenant USING (application_id = tenant());
GRANT SELECT ON profiles TO xproxy_tenant;
