-- Tenants' own changes are confined by row-level security; `schema.sql` has the reasons.

-- What a key that is no admin's asks for is asked as the tenant role: whatever the statement says,
-- nothing but its own application is read or written. Its changes go on record all the same.
ALTER TABLE own_prices ENABLE ROW LEVEL SECURITY;
ALTER TABLE own_prices FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON own_prices TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON own_prices TO xproxy_tenant USING (application_id = tenant());
GRANT SELECT, DELETE ON own_prices TO xproxy_tenant;
GRANT INSERT, UPDATE, DELETE ON limits TO xproxy_tenant;
GRANT INSERT ON limit_history TO xproxy_tenant;
GRANT UPDATE (properties) ON usage TO xproxy_tenant;
REVOKE SELECT ON keys FROM xproxy_tenant;  -- its digest is nobody's to read
GRANT SELECT (
    key_id, application_id, role, name, last4, permissions, limit_ids, created_at, expires_at, blocked
) ON keys TO xproxy_tenant;
DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION audit_change() SECURITY DEFINER SET search_path = %I, pg_temp', current_schema());
END
$$;
