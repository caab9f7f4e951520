-- Resources that applications price themselves; `schema.sql` has the reasons.
CREATE TABLE resources (
    resource_id      uuid PRIMARY KEY,
    revision         bigint GENERATED ALWAYS AS IDENTITY,
    application_id   uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    category         text NOT NULL CHECK (category NOT LIKE 'system.%'),
    resource         text NOT NULL,
    units            jsonb NOT NULL,
    max_input_units  bigint,
    max_output_units bigint,
    max_total_units  bigint,
    starts_at        timestamptz NOT NULL,
    created_by       text NOT NULL
);
CREATE INDEX resources_by_name ON resources (application_id, category, resource, starts_at, revision);

CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON resources
    FOR EACH ROW EXECUTE FUNCTION audit_change('resource', 'resource_id', '', '');

ALTER TABLE resources ENABLE ROW LEVEL SECURITY;
ALTER TABLE resources FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON resources TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON resources TO xproxy_tenant USING (application_id = tenant());
GRANT SELECT, INSERT, DELETE ON resources TO xproxy_tenant;
