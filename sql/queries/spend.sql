-- sum_spend_by --
-- Exact sums of rows that match, by the dimensions named in $12; of one customer, of these keys, or (null) any.
WITH matching AS (
    SELECT
        CASE WHEN 'day' = ANY ($12::text[])
            THEN to_char(u.admitted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS day,
        CASE WHEN 'key' = ANY ($12) THEN u.key_id END AS key_id,
        CASE WHEN 'user' = ANY ($12) THEN u.user_id END AS user_id,
        CASE WHEN 'customer' = ANY ($12) THEN u.account_name END AS customer,
        tagged.tag,
        CASE WHEN 'model' = ANY ($12) THEN u.model END AS model,
        CASE WHEN 'provider' = ANY ($12) THEN u.provider END AS provider,
        CASE WHEN 'endpoint' = ANY ($12) THEN u.endpoint END AS endpoint,
        calls_of(u.entry) AS calls,
        u.status, u.input_tokens, u.output_tokens, u.cost_pico, cached.read, cached.written
    FROM usage_matching(
        $1, uuid7_floor($2), uuid7_floor($3), $4, $5, $6, $7, $8, $9, $10, $11) AS u
    LEFT JOIN LATERAL (
        SELECT DISTINCT tag FROM jsonb_array_elements_text(u.tags) AS tag
    ) AS tagged ON 'tag' = ANY ($12)
    LEFT JOIN LATERAL (
        SELECT
            sum(value::numeric) FILTER (WHERE key LIKE 'cache\_read%') AS read,
            sum(value::numeric) FILTER (WHERE key LIKE 'cache\_write%') AS written
        FROM jsonb_each_text(u.units)
    ) AS cached ON 'cache' = ANY ($12)
    -- What limits began with is no call, although its row has the form of one.
    WHERE NOT (u.surface = 'import' AND u.entry = 'call')
      AND ($13::text IS NULL OR u.account_name = $13)
      AND ($14::text[] IS NULL OR u.key_id = ANY ($14))
)
SELECT
    day, key_id, user_id, customer, tag, model, provider, endpoint,
    coalesce(sum(calls) FILTER (WHERE status IN ('ok', 'unresolved')), 0) AS ok,
    coalesce(sum(calls) FILTER (WHERE status IN ('failed', 'blocked')), 0) AS failed,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    coalesce(sum(read), 0) AS cache_read_tokens,
    coalesce(sum(written), 0) AS cache_write_tokens,
    sum(cost_pico) AS cost_pico
FROM matching
GROUP BY day, key_id, user_id, customer, tag, model, provider, endpoint
ORDER BY day, key_id, user_id, customer, tag, model, provider, endpoint
LIMIT $15;

-- page_spend_calls --
-- Every entry of the calls that match, newest first, from the $15th on; of one customer, of these keys, with
-- one of these request ids, or (null) any.
WITH page AS (
    SELECT DISTINCT u.application_id, u.request_id, u.attempt
    FROM usage_matching(
        $1, uuid7_floor($2), uuid7_floor($3), $4, $5, $6, $7, $8, $9, $10, $11) AS u
    WHERE NOT (u.surface = 'import' AND u.entry = 'call')
      AND ($12::text IS NULL OR u.account_name = $12)
      AND ($13::text[] IS NULL OR u.key_id = ANY ($13))
      AND ($14::uuid[] IS NULL OR u.request_id = ANY ($14))
    ORDER BY u.request_id DESC, u.attempt DESC
    OFFSET $15 LIMIT $16
)
SELECT u.*, to_ms(u.at) AS at_ms
FROM page AS p
JOIN usage AS u USING (application_id, request_id, attempt)
WHERE u.request_id >= uuid7_floor($2) AND u.request_id < uuid7_floor($3)
ORDER BY u.request_id DESC, u.attempt DESC, u.at, u.entry;

-- count_spend_calls --
-- How many calls `page_spend_calls` has in all.
SELECT count(DISTINCT (u.request_id, u.attempt))
FROM usage_matching(
    $1, uuid7_floor($2), uuid7_floor($3), $4, $5, $6, $7, $8, $9, $10, $11) AS u
WHERE NOT (u.surface = 'import' AND u.entry = 'call')
  AND ($12::text IS NULL OR u.account_name = $12)
  AND ($13::text[] IS NULL OR u.key_id = ANY ($13))
  AND ($14::uuid[] IS NULL OR u.request_id = ANY ($14));
