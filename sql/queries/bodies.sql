-- add_bodies --
-- Keep the sealed bodies of calls of an application; those that are there stay.
INSERT INTO bodies (application_id, request_id, sealed)
SELECT $1, request_id, sealed
FROM unnest($2::uuid[], $3::bytea[]) AS said (request_id, sealed)
ORDER BY request_id
ON CONFLICT DO NOTHING;

-- read_bodies --
-- The sealed bodies of a call.
SELECT sealed FROM bodies WHERE application_id = $1 AND request_id = $2;

-- plan_anew --
-- What is asked in this transaction is planned for its tables as they are, not as they once were.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true);

-- expire_bodies --
-- Delete up to $2 bodies of calls before $1, or of applications that are no more; returns how many.
WITH RECURSIVE owner AS (
    (SELECT application_id FROM bodies ORDER BY application_id LIMIT 1)
    UNION ALL
    SELECT next.application_id
    FROM owner
    CROSS JOIN LATERAL (
        SELECT application_id FROM bodies
        WHERE application_id > owner.application_id
        ORDER BY application_id LIMIT 1
    ) AS next
), due AS (
    SELECT its.place
    FROM owner
    LEFT JOIN applications AS a USING (application_id)
    CROSS JOIN LATERAL (
        SELECT b.ctid AS place FROM bodies AS b
        WHERE b.application_id = owner.application_id
          AND b.request_id < CASE
              WHEN a.application_id IS NULL THEN 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid
              ELSE uuid7_floor($1) END
        ORDER BY b.application_id, b.request_id
        LIMIT $2
    ) AS its
    LIMIT $2
), gone AS (
    DELETE FROM bodies WHERE ctid = ANY (ARRAY(SELECT place FROM due)) RETURNING request_id
)
SELECT count(*) FROM gone;
