-- Credentials that end, and what Portkey's routes keep of them. `schema.sql` has the reasons.
ALTER TABLE credentials
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN note text,
    ADD COLUMN model_config jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN terms jsonb NOT NULL DEFAULT '{}';
GRANT SELECT (expires_at, note, model_config, terms) ON credentials TO xproxy_tenant;
GRANT UPDATE (expires_at, note, model_config, terms) ON credentials TO xproxy_tenant;

-- Who manages credentials attaches a virtual key's own limits, and nothing else.
DROP POLICY tenant ON attachments;
CREATE POLICY tenant ON attachments FOR SELECT TO xproxy_tenant USING (application_id = tenant());
CREATE POLICY virtual_key ON attachments FOR INSERT TO xproxy_tenant WITH CHECK (
    application_id = tenant() AND kind = 'credential' AND starts_with(limit_id, 'virtual_key:' || name || ':'));
GRANT INSERT ON attachments TO xproxy_tenant;
