-- lock_books --
-- No rows land until this transaction ends; they wait. One audit at a time.
LOCK TABLE limit_totals IN SHARE ROW EXCLUSIVE MODE;

-- read_limit_ids --
-- Every limit of an application.
SELECT limit_id FROM limits WHERE application_id = $1 ORDER BY limit_id;

-- read_application_ids --
-- Every tenant.
SELECT application_id FROM applications ORDER BY application_id;

-- read_totals_of --
-- What landed rows charged limits, each in its epochs from the first to the last that count.
SELECT t.limit_id, asked.epoch, sum(t.charged) AS charged, sum(t.input) AS input,
    sum(t.output) AS output, sum(t.ok)::bigint AS ok, sum(t.exceeded)::bigint AS exceeded,
    sum(t.overrun)::bigint AS overrun, sum(t.blocked)::bigint AS blocked,
    sum(t.blocked_external)::bigint AS blocked_external, sum(t.failed)::bigint AS failed
FROM unnest($2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[])
    AS asked (limit_id, epoch, unit, first, last)
JOIN limit_totals AS t USING (limit_id, unit)
WHERE t.application_id = $1 AND t.epoch BETWEEN asked.first AND asked.last
GROUP BY t.limit_id, asked.epoch;

-- read_totals_by_epoch --
-- What landed rows charged limits, each in each of its epochs from the first to the last that count.
SELECT t.limit_id, t.epoch, t.charged, t.input, t.output, t.ok, t.exceeded, t.overrun, t.blocked,
    t.blocked_external, t.failed
FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[]) AS asked (limit_id, unit, first, last)
JOIN limit_totals AS t USING (limit_id, unit)
WHERE t.application_id = $1 AND t.epoch BETWEEN asked.first AND asked.last;

-- read_landed_among --
-- Which of these entries have landed.
SELECT asked.request_id, asked.attempt, asked.entry
FROM unnest($2::uuid[], $3::integer[], $4::text[]) AS asked (request_id, attempt, entry)
WHERE EXISTS (
    SELECT FROM usage AS u
    WHERE u.application_id = $1 AND u.request_id = asked.request_id
      AND u.attempt = asked.attempt AND u.entry = asked.entry
    OFFSET 0  -- each by itself, by the index: a plan made while usage was small would scan it
);

-- read_any_usage --
-- Whether there is any row.
SELECT EXISTS (SELECT FROM usage);

-- read_buried --
-- Rows of an application that no table takes, or (null) of all.
SELECT application_id, request_id, reason, payload, encode(digest, 'hex') AS digest
FROM dead_letters
WHERE $1::text IS NULL OR application_id = $1
ORDER BY created_at, digest
LIMIT 1000;

-- read_limit_total_differences --
-- Limit totals that are not the sums of what rows charged, of an application or (null) of all.
WITH summed AS (
    SELECT
        application_id, charge ->> 0 AS limit_id, (charge ->> 1)::bigint AS epoch,
        charge ->> 2 AS unit, sum((charge ->> 3)::numeric) AS charged,
        coalesce(sum((charge ->> 3)::numeric - coalesce((own ->> 1)::numeric, cost_pico - input_pico))
            FILTER (WHERE charge ->> 2 = 'usd'), 0) AS input,
        coalesce(sum(coalesce((own ->> 1)::numeric, output_pico))
            FILTER (WHERE charge ->> 2 = 'usd'), 0) AS output,
        count(*) FILTER (WHERE entry = 'call' AND charge ->> 4 = 'ok') AS ok,
        count(*) FILTER (WHERE entry = 'call' AND charge ->> 4 = 'exceeded') AS exceeded,
        count(*) FILTER (WHERE entry = 'call' AND charge ->> 4 = 'overrun') AS overrun,
        count(*) FILTER (WHERE entry = 'call' AND charge ->> 4 = 'blocked') AS blocked,
        count(*) FILTER (WHERE entry = 'call' AND charge ->> 4 = 'blocked_external') AS blocked_external,
        count(*) FILTER (WHERE entry = 'call' AND charge ->> 4 = 'failed') AS failed
    FROM usage
    CROSS JOIN LATERAL jsonb_array_elements(charges) AS charge
    CROSS JOIN LATERAL (SELECT limit_costs -> (charge ->> 0) AS own) AS its
    WHERE $1::uuid IS NULL OR application_id = $1
    GROUP BY application_id, limit_id, epoch, unit
)
SELECT
    application_id, limit_id, epoch, unit,
    ARRAY[t.charged, t.input, t.output, t.ok, t.exceeded, t.overrun, t.blocked, t.blocked_external,
          t.failed]::numeric[] AS found,
    ARRAY[s.charged, s.input, s.output, s.ok, s.exceeded, s.overrun, s.blocked, s.blocked_external,
          s.failed]::numeric[] AS expected
FROM summed AS s
FULL JOIN (SELECT * FROM limit_totals WHERE $1 IS NULL OR application_id = $1) AS t
    USING (application_id, limit_id, epoch, unit)
WHERE (s.charged, s.input, s.output, s.ok, s.exceeded, s.overrun, s.blocked, s.blocked_external, s.failed)
    IS DISTINCT FROM
      (t.charged, t.input, t.output, t.ok, t.exceeded, t.overrun, t.blocked, t.blocked_external, t.failed)
ORDER BY application_id, limit_id, epoch, unit
LIMIT $2;

-- put_limit_total --
-- Have a limit's total say what its rows sum up to.
INSERT INTO limit_totals (
    application_id, limit_id, epoch, unit, charged, input, output,
    ok, exceeded, overrun, blocked, blocked_external, failed
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (application_id, limit_id, epoch, unit) DO UPDATE SET
    charged = excluded.charged, input = excluded.input, output = excluded.output, ok = excluded.ok,
    exceeded = excluded.exceeded, overrun = excluded.overrun, blocked = excluded.blocked,
    blocked_external = excluded.blocked_external, failed = excluded.failed;

-- read_rollup_differences --
-- Rollups that are not the sums of their rows, of an application or (null) of all.
WITH summed AS (
    SELECT
        application_id, d.dimension, d.value, date_trunc('hour', admitted_at, 'UTC') AS hour,
        coalesce(sum(calls_of(entry)) FILTER (WHERE status = 'ok'), 0) AS ok,
        coalesce(sum(calls_of(entry)) FILTER (WHERE status = 'failed'), 0) AS failed,
        coalesce(sum(calls_of(entry)) FILTER (WHERE status = 'blocked'), 0) AS blocked,
        coalesce(sum(calls_of(entry)) FILTER (WHERE status = 'unresolved'), 0) AS unresolved,
        coalesce(sum(calls_of(entry)) FILTER (WHERE estimated), 0) AS estimated,
        coalesce(sum(calls_of(entry)) FILTER (WHERE pricing = 'unpriced'), 0) AS unpriced,
        sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
        sum(input_pico) AS input_pico, sum(output_pico) AS output_pico, sum(cost_pico) AS cost_pico
    FROM usage
    CROSS JOIN LATERAL usage_dimensions(
        model, provider, key_id, user_id, use_case_name, tags, charges) AS d
    WHERE $1::uuid IS NULL OR application_id = $1
    GROUP BY application_id, d.dimension, d.value, hour
)
SELECT
    application_id, dimension, value, to_ms(hour) AS hour_ms,
    ARRAY[r.ok, r.failed, r.blocked, r.unresolved, r.estimated, r.unpriced, r.input_tokens,
          r.output_tokens, r.input_pico, r.output_pico, r.cost_pico]::numeric[] AS found,
    ARRAY[s.ok, s.failed, s.blocked, s.unresolved, s.estimated, s.unpriced, s.input_tokens,
          s.output_tokens, s.input_pico, s.output_pico, s.cost_pico]::numeric[] AS expected
FROM summed AS s
FULL JOIN (SELECT * FROM rollups WHERE $1 IS NULL OR application_id = $1) AS r
    USING (application_id, dimension, value, hour)
WHERE (s.ok, s.failed, s.blocked, s.unresolved, s.estimated, s.unpriced, s.input_tokens,
       s.output_tokens, s.input_pico, s.output_pico, s.cost_pico)
    IS DISTINCT FROM
      (r.ok, r.failed, r.blocked, r.unresolved, r.estimated, r.unpriced, r.input_tokens,
       r.output_tokens, r.input_pico, r.output_pico, r.cost_pico)
ORDER BY application_id, dimension, value, hour
LIMIT $2;

-- put_rollup --
-- Have a rollup say what its rows sum up to.
INSERT INTO rollups (
    application_id, dimension, value, hour, ok, failed, blocked, unresolved, estimated, unpriced,
    input_tokens, output_tokens, input_pico, output_pico, cost_pico
)
VALUES ($1, $2, $3, from_ms($4), $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (application_id, dimension, value, hour) DO UPDATE SET
    ok = excluded.ok, failed = excluded.failed, blocked = excluded.blocked,
    unresolved = excluded.unresolved, estimated = excluded.estimated, unpriced = excluded.unpriced,
    input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
    input_pico = excluded.input_pico, output_pico = excluded.output_pico,
    cost_pico = excluded.cost_pico;

-- delete_limit_total --
-- Remove the total of a limit that no row charged.
DELETE FROM limit_totals WHERE application_id = $1 AND limit_id = $2 AND epoch = $3 AND unit = $4;

-- delete_rollup --
-- Remove a rollup that has no rows.
DELETE FROM rollups
WHERE application_id = $1 AND dimension = $2 AND value = $3 AND hour = from_ms($4);
