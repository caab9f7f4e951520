-- Partitions are made without a long wait for locks; `schema.sql` has the reasons.
CREATE OR REPLACE FUNCTION create_usage_partitions(first_at timestamptz, ahead integer) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
DECLARE
    starts   timestamp;
    low      uuid;
    high     uuid;
    name     text;
    created  integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('xproxy.create_usage_partitions'));
    FOR n IN 0..ahead LOOP
        starts := date_trunc('month', first_at AT TIME ZONE 'UTC') + make_interval(months => n);
        low := uuid7_floor(to_ms(starts AT TIME ZONE 'UTC'));
        high := uuid7_floor(to_ms((starts + interval '1 month') AT TIME ZONE 'UTC'));
        name := 'usage_' || to_char(starts, 'YYYY_MM');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        LOCK TABLE usage_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE %I (LIKE usage INCLUDING ALL)', name);
        EXECUTE format(
            'WITH moved AS (DELETE FROM usage_default WHERE request_id >= %L AND request_id < %L RETURNING *)'
            ' INSERT INTO %I SELECT * FROM moved', low, high, name);
        EXECUTE format('ALTER TABLE usage ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, low, high);
        created := created + 1;
    END LOOP;
    RETURN created;
END
$$;
