-- Which calls that were made elsewhere have been reported, and when their first completion token came.
CREATE TABLE ingested (
    application_id  uuid NOT NULL,
    source          text NOT NULL,
    id              text NOT NULL,
    request_id      uuid NOT NULL,
    PRIMARY KEY (application_id, source, id)
);

ALTER TABLE ingested ENABLE ROW LEVEL SECURITY;
ALTER TABLE ingested FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON ingested TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON ingested TO xproxy_tenant USING (application_id = tenant());
GRANT SELECT, INSERT, UPDATE (request_id) ON ingested TO xproxy_tenant;

ALTER TABLE usage ADD COLUMN ttfct_ms integer;
