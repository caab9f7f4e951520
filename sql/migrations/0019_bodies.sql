-- What was said in reported calls, sealed; `schema.sql` has the reasons.
CREATE TABLE bodies (
    application_id  uuid NOT NULL,
    request_id      uuid NOT NULL,
    sealed          bytea NOT NULL,
    PRIMARY KEY (application_id, request_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE bodies ALTER COLUMN sealed SET STORAGE EXTERNAL;

ALTER TABLE bodies ENABLE ROW LEVEL SECURITY;
ALTER TABLE bodies FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON bodies TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON bodies TO xproxy_tenant USING (application_id = tenant());
GRANT SELECT, INSERT ON bodies TO xproxy_tenant;
