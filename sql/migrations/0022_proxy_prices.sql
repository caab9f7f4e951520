-- Which prices of applications' own price proxied calls; `schema.sql` has the reasons.
ALTER TABLE resources ADD COLUMN proxy_allowed boolean NOT NULL DEFAULT false;

DROP POLICY tenant ON resources;
CREATE POLICY tenant ON resources FOR SELECT TO xproxy_tenant USING (application_id = tenant());
CREATE POLICY tenant_adds ON resources FOR INSERT TO xproxy_tenant
    WITH CHECK (application_id = tenant() AND NOT proxy_allowed);
CREATE POLICY tenant_deletes ON resources FOR DELETE TO xproxy_tenant
    USING (application_id = tenant() AND NOT proxy_allowed);
