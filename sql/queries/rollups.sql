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

-- sum_spend --
-- What all landed calls of some values of a dimension cost.
SELECT value, sum(cost_pico) AS cost_pico
FROM rollups
WHERE application_id = $1 AND dimension = $2 AND value = ANY ($3::text[])
GROUP BY value;
