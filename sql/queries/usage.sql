-- land_usage --
-- Land a batch of rows, and feed rollups and limit totals from those that were really new.
WITH landed AS (
    INSERT INTO usage (
        application_id, request_id, attempt, entry, admitted_at, at, key_id, surface, provider,
        category, method, endpoint, streamed, status, http_status, error_code, pricing, estimated,
        model_requested, model, price_as_category, price_as_resource, price_id, service_tier, scope,
        units, lines, input_tokens, output_tokens, input_pico, output_pico, cost_pico, warnings,
        provider_id, user_id, account_name, use_case_name, use_case_id, use_case_version,
        use_case_step, tags, properties, use_case_properties, latency_ms, ttft_ms, charges,
        provider_host, price_version, credential, limit_costs, refusals, retry_count, ttfct_ms
    )
    SELECT
        application_id, request_id, attempt, entry, from_ms(uuid7_ms(request_id)), from_ms(at_ms),
        key_id, surface, provider, category, method, endpoint, streamed, status, http_status,
        error_code, pricing, estimated, model_requested, model, price_as_category,
        price_as_resource, price_id, service_tier, scope, units, lines, input_tokens,
        output_tokens, input_pico, output_pico, cost_pico, warnings, provider_id, user_id,
        account_name, use_case_name, use_case_id, use_case_version, use_case_step, tags,
        properties, use_case_properties, latency_ms, ttft_ms, charges,
        provider_host, price_version, credential, limit_costs, refusals, retry_count, ttfct_ms
    FROM unnest(
        $1::uuid[], $2::uuid[], $3::integer[], $4::text[], $5::bigint[], $6::text[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::boolean[], $13::text[],
        $14::integer[], $15::text[], $16::text[], $17::boolean[], $18::text[], $19::text[],
        $20::text[], $21::text[], $22::text[], $23::text[], $24::text[], $25::jsonb[],
        $26::jsonb[], $27::bigint[], $28::bigint[], $29::bigint[], $30::bigint[], $31::bigint[],
        $32::jsonb[], $33::text[], $34::text[], $35::text[], $36::text[], $37::text[],
        $38::integer[], $39::text[], $40::jsonb[], $41::jsonb[], $42::jsonb[], $43::integer[],
        $44::integer[], $45::jsonb[], $46::text[], $47::text[], $48::text[], $49::jsonb[],
        $50::jsonb[], $51::integer[], $52::integer[]
    ) WITH ORDINALITY AS r (
        application_id, request_id, attempt, entry, at_ms, key_id, surface, provider, category,
        method, endpoint, streamed, status, http_status, error_code, pricing, estimated,
        model_requested, model, price_as_category, price_as_resource, price_id, service_tier, scope,
        units, lines, input_tokens, output_tokens, input_pico, output_pico, cost_pico, warnings,
        provider_id, user_id, account_name, use_case_name, use_case_id, use_case_version,
        use_case_step, tags, properties, use_case_properties, latency_ms, ttft_ms, charges,
        provider_host, price_version, credential, limit_costs, refusals, retry_count, ttfct_ms,
        position
    )
    -- Writers that overlap wait in one order; of a row that came twice the first lands.
    ORDER BY application_id, request_id, attempt, entry, position
    ON CONFLICT DO NOTHING
    RETURNING
        application_id, admitted_at, entry, status, estimated, pricing, model, provider, key_id,
        user_id, use_case_name, tags, charges, input_tokens, output_tokens, input_pico,
        output_pico, cost_pico, limit_costs
), alike AS (
    -- What is counted under the same values is summed before it is counted under each of them.
    SELECT
        application_id, date_trunc('hour', admitted_at, 'UTC') AS hour,
        model, provider, key_id, user_id, use_case_name, tags,
        jsonb_path_query_array(charges, '$[*][0]') AS limit_ids,
        coalesce(sum(calls_of(entry)) FILTER (WHERE status = 'ok'), 0) AS ok,
        coalesce(sum(calls_of(entry)) FILTER (WHERE status = 'failed'), 0) AS failed,
        coalesce(sum(calls_of(entry)) FILTER (WHERE status = 'blocked'), 0) AS blocked,
        coalesce(sum(calls_of(entry)) FILTER (WHERE status = 'unresolved'), 0) AS unresolved,
        coalesce(sum(calls_of(entry)) FILTER (WHERE estimated), 0) AS estimated,
        coalesce(sum(calls_of(entry)) FILTER (WHERE pricing = 'unpriced'), 0) AS unpriced,
        sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
        sum(input_pico) AS input_pico, sum(output_pico) AS output_pico, sum(cost_pico) AS cost_pico
    FROM landed
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
), rolled AS (
    INSERT INTO rollups AS r (
        application_id, dimension, value, hour, ok, failed, blocked, unresolved, estimated, unpriced,
        input_tokens, output_tokens, input_pico, output_pico, cost_pico
    )
    SELECT
        application_id, d.dimension, d.value, hour, sum(ok), sum(failed), sum(blocked),
        sum(unresolved), sum(estimated), sum(unpriced), sum(input_tokens), sum(output_tokens),
        sum(input_pico), sum(output_pico), sum(cost_pico)
    FROM alike
    CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_agg(jsonb_build_array(id)), '[]') AS charges
        FROM jsonb_array_elements(limit_ids) AS id) AS its
    CROSS JOIN LATERAL usage_dimensions(
        model, provider, key_id, user_id, use_case_name, tags, its.charges) AS d
    GROUP BY application_id, d.dimension, d.value, hour
    ORDER BY application_id, d.dimension, d.value, hour
    ON CONFLICT (application_id, dimension, value, hour) DO UPDATE SET
        ok = r.ok + excluded.ok,
        failed = r.failed + excluded.failed,
        blocked = r.blocked + excluded.blocked,
        unresolved = r.unresolved + excluded.unresolved,
        estimated = r.estimated + excluded.estimated,
        unpriced = r.unpriced + excluded.unpriced,
        input_tokens = r.input_tokens + excluded.input_tokens,
        output_tokens = r.output_tokens + excluded.output_tokens,
        input_pico = r.input_pico + excluded.input_pico,
        output_pico = r.output_pico + excluded.output_pico,
        cost_pico = r.cost_pico + excluded.cost_pico
), charged AS (
    INSERT INTO limit_totals AS t (
        application_id, limit_id, epoch, unit, charged, input, output,
        ok, exceeded, overrun, blocked, blocked_external, failed
    )
    SELECT
        application_id, charge ->> 0 AS limit_id, (charge ->> 1)::bigint AS epoch,
        charge ->> 2 AS unit, sum((charge ->> 3)::numeric),
        -- A charge may differ from the cost (a lost call's ceiling): the difference counts as input.
        coalesce(sum((charge ->> 3)::numeric - coalesce((own ->> 1)::numeric, cost_pico - input_pico))
            FILTER (WHERE charge ->> 2 = 'usd'), 0),
        coalesce(sum(coalesce((own ->> 1)::numeric, output_pico))
            FILTER (WHERE charge ->> 2 = 'usd'), 0),
        count(*) FILTER (WHERE entry = 'call' AND charge ->> 4 = 'ok'),
        count(*) FILTER (WHERE entry = 'call' AND charge ->> 4 = 'exceeded'),
        count(*) FILTER (WHERE entry = 'call' AND charge ->> 4 = 'overrun'),
        count(*) FILTER (WHERE entry = 'call' AND charge ->> 4 = 'blocked'),
        count(*) FILTER (WHERE entry = 'call' AND charge ->> 4 = 'blocked_external'),
        count(*) FILTER (WHERE entry = 'call' AND charge ->> 4 = 'failed')
    FROM landed
    CROSS JOIN LATERAL jsonb_array_elements(charges) AS charge
    -- What a limit with own rates is charged in place of the cost; null for the others.
    CROSS JOIN LATERAL (SELECT limit_costs -> (charge ->> 0) AS own) AS its
    GROUP BY application_id, limit_id, epoch, unit
    ORDER BY application_id, limit_id, epoch, unit
    ON CONFLICT (application_id, limit_id, epoch, unit) DO UPDATE SET
        charged = t.charged + excluded.charged,
        input = t.input + excluded.input,
        output = t.output + excluded.output,
        ok = t.ok + excluded.ok,
        exceeded = t.exceeded + excluded.exceeded,
        overrun = t.overrun + excluded.overrun,
        blocked = t.blocked + excluded.blocked,
        blocked_external = t.blocked_external + excluded.blocked_external,
        failed = t.failed + excluded.failed
)
SELECT count(*) FROM landed;

-- page_usage_newest --
-- A page of rows that match, newest first, after (request_id, attempt, entry).
SELECT u.*, to_ms(u.at) AS at_ms
FROM usage_matching(
    $1, uuid7_floor($2), uuid7_floor($3), $4, $5, $6, $7, $8, $9, $10, $11) AS u
WHERE $12::uuid IS NULL OR (u.request_id, u.attempt, u.entry) < ($12, $13::integer, $14::text)
ORDER BY u.request_id DESC, u.attempt DESC, u.entry DESC
LIMIT $15;

-- page_usage_oldest --
-- A page of rows that match, oldest first, after (request_id, attempt, entry).
SELECT u.*, to_ms(u.at) AS at_ms
FROM usage_matching(
    $1, uuid7_floor($2), uuid7_floor($3), $4, $5, $6, $7, $8, $9, $10, $11) AS u
WHERE $12::uuid IS NULL OR (u.request_id, u.attempt, u.entry) > ($12, $13::integer, $14::text)
ORDER BY u.request_id, u.attempt, u.entry
LIMIT $15;

-- group_usage --
-- Exact sums of rows that match, by the dimensions named in $12, after the group $13, in their order.
WITH keyed AS (
    SELECT u.*, array_replace(ARRAY[
        CASE WHEN 'month' = ANY ($12::text[])
            THEN to_char(u.admitted_at AT TIME ZONE 'UTC', 'YYYY-MM') END,
        CASE WHEN 'day' = ANY ($12)
            THEN to_char(u.admitted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') END,
        CASE WHEN 'hour' = ANY ($12)
            THEN to_char(u.admitted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24":00:00Z"') END,
        CASE WHEN 'application' = ANY ($12) THEN u.application_id::text END,
        CASE WHEN 'key' = ANY ($12) THEN u.key_id END,
        charged.limit_id,
        CASE WHEN 'user' = ANY ($12) THEN u.user_id END,
        CASE WHEN 'use_case' = ANY ($12) THEN u.use_case_name END,
        tagged.tag,
        CASE WHEN 'model' = ANY ($12) THEN u.model END,
        CASE WHEN 'provider' = ANY ($12) THEN u.provider END,
        CASE WHEN 'status' = ANY ($12) THEN u.status END
    ], NULL, '') AS parts
    FROM usage_matching(
        $1, uuid7_floor($2), uuid7_floor($3), $4, $5, $6, $7, $8, $9, $10, $11) AS u
    LEFT JOIN LATERAL (
        SELECT DISTINCT charge ->> 0 AS limit_id FROM jsonb_array_elements(u.charges) AS charge
    ) AS charged ON 'limit' = ANY ($12)
    LEFT JOIN LATERAL (
        SELECT DISTINCT tag FROM jsonb_array_elements_text(u.tags) AS tag
    ) AS tagged ON 'tag' = ANY ($12)
)
SELECT
    parts,
    coalesce(sum(calls_of(entry)) FILTER (WHERE status = 'ok'), 0) AS ok,
    coalesce(sum(calls_of(entry)) FILTER (WHERE status = 'failed'), 0) AS failed,
    coalesce(sum(calls_of(entry)) FILTER (WHERE status = 'blocked'), 0) AS blocked,
    coalesce(sum(calls_of(entry)) FILTER (WHERE status = 'unresolved'), 0) AS unresolved,
    coalesce(sum(calls_of(entry)) FILTER (WHERE estimated), 0) AS estimated,
    coalesce(sum(calls_of(entry)) FILTER (WHERE pricing = 'unpriced'), 0) AS unpriced,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(input_pico) AS input_pico,
    sum(output_pico) AS output_pico,
    sum(cost_pico) AS cost_pico
FROM keyed
GROUP BY parts
HAVING $13::text[] IS NULL OR parts > $13
ORDER BY parts
LIMIT $14;

-- begin_tenant_read --
-- Become the tenant role, seeing one application until the transaction ends; returns the time.
SELECT
    to_ms(now()) AS as_of_ms,
    set_config('xproxy.application', $1, true),
    set_config('role', 'xproxy_tenant', true);

-- begin_read --
-- The time of this transaction: whatever was committed before it is seen by it.
SELECT to_ms(now()) AS as_of_ms;

-- create_usage_partitions --
-- Make the partitions of this month and of some months ahead; returns how many were new.
SELECT create_usage_partitions(from_ms($1), $2);

-- create_usage_month --
-- Make the partition of a month since $2, if at most $3 rows of it have to be moved; how many were new.
SELECT create_usage_partitions(from_ms($1), 0)
WHERE from_ms($1) BETWEEN from_ms($2) AND now()
  AND (
      SELECT count(*)
      FROM (
          SELECT FROM usage_default
          WHERE request_id >= uuid7_floor(to_ms(date_trunc('month', from_ms($1), 'UTC')))
            AND request_id < uuid7_floor(to_ms(
                date_trunc('month', from_ms($1), 'UTC') + interval '1 month'))
          LIMIT $3::bigint + 1
      ) AS moved) <= $3;

-- read_default_months --
-- The months that rows in the default partition are of, by a time in each.
WITH RECURSIVE found AS (
    (SELECT uuid7_ms(request_id) AS at_ms FROM usage_default ORDER BY request_id LIMIT 1)
    UNION ALL
    SELECT next.at_ms
    FROM found
    CROSS JOIN LATERAL (
        SELECT uuid7_ms(request_id) AS at_ms FROM usage_default
        WHERE request_id >= uuid7_floor(to_ms(
            date_trunc('month', from_ms(found.at_ms), 'UTC') + interval '1 month'))
        ORDER BY request_id LIMIT 1
    ) AS next
)
SELECT at_ms FROM found;

-- create_dead_letter --
-- Keep a row that no table takes, once.
INSERT INTO dead_letters (digest, application_id, request_id, reason, payload)
VALUES (sha256($4), $1, $2, $3, $4)
ON CONFLICT DO NOTHING;

-- read_dead_letters --
-- The latest rows that could not land, with the reasons.
SELECT application_id, request_id, reason, payload, to_ms(created_at) AS created_ms
FROM dead_letters
ORDER BY created_at DESC, digest
LIMIT $1;

-- page_usage_calls --
-- Every entry of a page of calls that match, oldest first, after (request_id, attempt, application).
WITH page AS (
    SELECT u.application_id, u.request_id, u.attempt
    FROM usage_matching(
        $1, uuid7_floor($2), uuid7_floor($3), $4, $5, $6, $7, $8, $9, $10, $11) AS u
    WHERE u.entry = 'call'
      AND ($12::uuid IS NULL
           OR (u.request_id, u.attempt, u.application_id) > ($12, $13::integer, $14::uuid))
    ORDER BY u.request_id, u.attempt, u.application_id
    LIMIT $15
)
SELECT u.*, to_ms(u.at) AS at_ms
FROM page AS p
JOIN usage AS u USING (application_id, request_id, attempt)
WHERE u.request_id >= uuid7_floor($2) AND u.request_id < uuid7_floor($3)
ORDER BY u.request_id, u.attempt, u.application_id, u.at, u.entry;
