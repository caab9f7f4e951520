-- group_rollups --
-- What group_usage answers, from the hours in [$3, $4) of one dimension, where these suffice.
WITH keyed AS (
    SELECT r.*, ARRAY[
        CASE WHEN 'month' = ANY ($6::text[])
            THEN to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM') ELSE '' END,
        CASE WHEN 'day' = ANY ($6)
            THEN to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD') ELSE '' END,
        CASE WHEN 'hour' = ANY ($6)
            THEN to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24":00:00Z"') ELSE '' END,
        CASE WHEN 'application' = ANY ($6) THEN application_id::text ELSE '' END,
        CASE WHEN 'key' = ANY ($6) THEN value ELSE '' END,
        CASE WHEN 'limit' = ANY ($6) THEN value ELSE '' END,
        CASE WHEN 'user' = ANY ($6) THEN value ELSE '' END,
        CASE WHEN 'use_case' = ANY ($6) THEN value ELSE '' END,
        CASE WHEN 'tag' = ANY ($6) THEN value ELSE '' END,
        CASE WHEN 'model' = ANY ($6) THEN value ELSE '' END,
        CASE WHEN 'provider' = ANY ($6) THEN value ELSE '' END,
        ''
    ] AS parts
    FROM rollups AS r
    WHERE application_id = $1 AND dimension = $2
      AND hour >= from_ms($3) AND hour < from_ms($4)
      AND ($5::text IS NULL OR value = $5)
)
SELECT
    parts,
    sum(ok) AS ok,
    sum(failed) AS failed,
    sum(blocked) AS blocked,
    sum(unresolved) AS unresolved,
    sum(estimated) AS estimated,
    sum(unpriced) AS unpriced,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(input_pico) AS input_pico,
    sum(output_pico) AS output_pico,
    sum(cost_pico) AS cost_pico
FROM keyed
GROUP BY parts
HAVING $7::text[] IS NULL OR parts > $7
ORDER BY parts
LIMIT $8;

-- count_rollup_differences --
-- How many rollups are not the sum of their rows: any but zero is a fault.
WITH summed AS (
    SELECT
        application_id, d.dimension, d.value, date_trunc('hour', admitted_at, 'UTC') AS hour,
        count(*) FILTER (WHERE entry = 'call' AND status = 'ok') AS ok,
        count(*) FILTER (WHERE entry = 'call' AND status = 'failed') AS failed,
        count(*) FILTER (WHERE entry = 'call' AND status = 'blocked') AS blocked,
        count(*) FILTER (WHERE entry = 'call' AND status = 'unresolved') AS unresolved,
        count(*) FILTER (WHERE entry = 'call' AND estimated) AS estimated,
        count(*) FILTER (WHERE entry = 'call' AND pricing = 'unpriced') AS unpriced,
        sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
        sum(input_pico) AS input_pico, sum(output_pico) AS output_pico, sum(cost_pico) AS cost_pico
    FROM usage
    CROSS JOIN LATERAL usage_dimensions(
        model, provider, key_id, user_id, use_case_name, tags, charges) AS d
    GROUP BY application_id, d.dimension, d.value, hour
)
SELECT count(*)
FROM summed AS s
FULL JOIN rollups AS r USING (application_id, dimension, value, hour)
WHERE (s.ok, s.failed, s.blocked, s.unresolved, s.estimated, s.unpriced, s.input_tokens,
       s.output_tokens, s.input_pico, s.output_pico, s.cost_pico)
    IS DISTINCT FROM
      (r.ok, r.failed, r.blocked, r.unresolved, r.estimated, r.unpriced, r.input_tokens,
       r.output_tokens, r.input_pico, r.output_pico, r.cost_pico);

-- count_limit_total_differences --
-- How many limit totals are not the sum of what rows charged: any but zero is a fault.
WITH summed AS (
    SELECT
        application_id, charge ->> 0 AS limit_id, (charge ->> 1)::bigint AS epoch,
        charge ->> 2 AS unit, sum((charge ->> 3)::numeric) AS charged,
        count(*) FILTER (WHERE entry = 'call') AS calls
    FROM usage
    CROSS JOIN LATERAL jsonb_array_elements(charges) AS charge
    GROUP BY application_id, limit_id, epoch, unit
)
SELECT count(*)
FROM summed AS s
FULL JOIN limit_totals AS t USING (application_id, limit_id, epoch, unit)
WHERE (s.charged, s.calls) IS DISTINCT FROM (
    t.charged, t.ok + t.exceeded + t.overrun + t.blocked + t.blocked_external + t.failed);
