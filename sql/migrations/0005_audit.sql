-- Every change that people make is on record; `schema.sql` has the reasons.

-- What was changed, by whom, as a trigger saw it: in the transaction of the change, so that neither is
-- there without the other. `actor` is what `xproxy.actor` says in that transaction; without it, it was
-- the service itself. Secrets are never in `before` and `after`, only that they changed.
CREATE TABLE audit (
    audit_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    application_id  uuid,                             -- null: it is of no single one
    actor           jsonb NOT NULL,                   -- {role, key_id, address, request_id}
    action          text NOT NULL,                    -- created, updated, deleted, repriced
    object          text NOT NULL,                    -- a noun: limit, key, ...
    object_id       text NOT NULL,
    before          jsonb,                            -- the whole row; null: there was none
    after           jsonb
);
-- An application's pages go by age, and so do those of one thing.
CREATE INDEX audit_by_application ON audit (application_id, audit_id);
CREATE INDEX audit_by_object ON audit (object, object_id, audit_id);

CREATE FUNCTION audit_actor() RETURNS jsonb LANGUAGE sql STABLE
    RETURN coalesce(nullif(current_setting('xproxy.actor', true), ''), '{"role": "service"}')::jsonb;

-- A trigger of a table that people change. Arguments: the noun; the column of its id; columns that are
-- secret, by commas; columns that are no change when they change.
CREATE FUNCTION audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    secret  text[] := string_to_array(TG_ARGV[2], ',');
    silent  text[] := string_to_array(TG_ARGV[3], ',');
    old_row jsonb;
    new_row jsonb;
    named   jsonb;
    hidden  text;
BEGIN
    IF TG_OP <> 'INSERT' THEN old_row := to_jsonb(OLD) - silent; END IF;
    IF TG_OP <> 'DELETE' THEN new_row := to_jsonb(NEW) - silent; END IF;
    IF old_row = new_row THEN RETURN NULL; END IF;
    named := coalesce(new_row, old_row);
    FOREACH hidden IN ARRAY secret LOOP
        IF new_row ? hidden THEN
            new_row := new_row || jsonb_build_object(hidden, CASE
                WHEN new_row -> hidden = 'null' THEN NULL
                WHEN old_row IS NULL OR old_row -> hidden = new_row -> hidden THEN 'secret'
                ELSE 'another secret' END);
        END IF;
        IF old_row -> hidden <> 'null' THEN
            old_row := old_row || jsonb_build_object(hidden, 'secret');
        END IF;
    END LOOP;
    INSERT INTO audit (application_id, actor, action, object, object_id, before, after)
    VALUES ((named ->> 'application_id')::uuid, audit_actor(),
            CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'updated' ELSE 'deleted' END,
            TG_ARGV[0], named ->> TG_ARGV[1], old_row, new_row);
    RETURN NULL;
END
$$;

CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON applications
    FOR EACH ROW EXECUTE FUNCTION audit_change('application', 'application_id', '', '');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON keys
    FOR EACH ROW EXECUTE FUNCTION audit_change('key', 'key_id', 'digest', '');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON limits
    FOR EACH ROW EXECUTE FUNCTION audit_change('limit', 'limit_id', '', 'updated_at');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON price_versions
    FOR EACH ROW EXECUTE FUNCTION audit_change('price_version', 'version', '', 'files');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON own_prices
    FOR EACH ROW EXECUTE FUNCTION audit_change('own_prices', 'revision', '', '');

-- What is written stays as it was written.
CREATE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only ever appended to' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_stays();

ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON audit TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON audit TO xproxy_tenant USING (application_id = tenant());
GRANT SELECT ON audit TO xproxy_tenant;
