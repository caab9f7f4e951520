-- create_limit --
-- Add a limit; nothing comes back when its id or name is taken in the application.
INSERT INTO limits (
    application_id, limit_id, limit_name, mode, unit, max, threshold_ppm, epoch, properties,
    created_at, updated_at, "window", on_store_down
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, jsonb_strip_nulls($9), from_ms($10), from_ms($11), $12, $13)
ON CONFLICT DO NOTHING
RETURNING application_id, limit_id, limit_name, mode, unit, max, threshold_ppm, epoch, properties, "window",
    on_store_down, to_ms(created_at) AS created_ms, to_ms(updated_at) AS updated_ms;

-- read_limit_taken --
-- The limit that has this id, or else the one that has this name.
SELECT application_id, limit_id, limit_name, mode, unit, max, threshold_ppm, epoch, properties, "window",
    on_store_down, to_ms(created_at) AS created_ms, to_ms(updated_at) AS updated_ms
FROM limits
WHERE application_id = $1 AND (limit_id = $2 OR limit_name = $3)
ORDER BY limit_id = $2 DESC
LIMIT 1;

-- read_limits --
-- The limits with these ids.
SELECT application_id, limit_id, limit_name, mode, unit, max, threshold_ppm, epoch, properties, "window",
    on_store_down, to_ms(created_at) AS created_ms, to_ms(updated_at) AS updated_ms
FROM limits
WHERE application_id = $1 AND limit_id = ANY ($2::text[]);

-- page_limits_newest --
-- A page of limits, of one name or (null) any, newest first, after (created_ms, limit_id).
SELECT application_id, limit_id, limit_name, mode, unit, max, threshold_ppm, epoch, properties, "window",
    on_store_down, to_ms(created_at) AS created_ms, to_ms(updated_at) AS updated_ms
FROM limits
WHERE application_id = $1
  AND ($2::text IS NULL OR limit_name = $2)
  AND ($3::bigint IS NULL OR (created_at, limit_id) < (from_ms($3), $4::text))
ORDER BY created_at DESC, limit_id DESC
LIMIT $5;

-- page_limits_oldest --
-- A page of limits, of one name or (null) any, oldest first, after (created_ms, limit_id).
SELECT application_id, limit_id, limit_name, mode, unit, max, threshold_ppm, epoch, properties, "window",
    on_store_down, to_ms(created_at) AS created_ms, to_ms(updated_at) AS updated_ms
FROM limits
WHERE application_id = $1
  AND ($2::text IS NULL OR limit_name = $2)
  AND ($3::bigint IS NULL OR (created_at, limit_id) > (from_ms($3), $4::text))
ORDER BY created_at, limit_id
LIMIT $5;

-- count_limits --
-- How many limits there are of one name or (null) any, with one of these tags or (null) any: they are in a
-- property, with commas between them.
SELECT count(*)
FROM limits
WHERE application_id = $1
  AND ($2::text IS NULL OR limit_name = $2)
  AND ($3::text[] IS NULL OR string_to_array(properties ->> $4::text, ',') && $3);

-- number_limits --
-- The same limits by age, oldest first or (false) newest, from a number on.
SELECT application_id, limit_id, limit_name, mode, unit, max, threshold_ppm, epoch, properties, "window",
    on_store_down, to_ms(created_at) AS created_ms, to_ms(updated_at) AS updated_ms
FROM limits
WHERE application_id = $1
  AND ($2::text IS NULL OR limit_name = $2)
  AND ($3::text[] IS NULL OR string_to_array(properties ->> $4::text, ',') && $3)
ORDER BY CASE WHEN $5 THEN created_at END, CASE WHEN $5 THEN limit_id END, created_at DESC, limit_id DESC
OFFSET $6 LIMIT $7;

-- update_limit --
-- Change a limit's max, name, what becomes of its calls without a store, mode or threshold; null leaves as
-- it is, and 0 takes the threshold away.
UPDATE limits
SET max = coalesce($3, max), limit_name = coalesce($4, limit_name), updated_at = from_ms($5),
    on_store_down = coalesce($6, on_store_down), mode = coalesce($7, mode),
    threshold_ppm = nullif(coalesce($8, threshold_ppm), 0)
WHERE application_id = $1 AND limit_id = $2
RETURNING application_id, limit_id, limit_name, mode, unit, max, threshold_ppm, epoch, properties, "window",
    on_store_down, to_ms(created_at) AS created_ms, to_ms(updated_at) AS updated_ms;

-- update_limit_properties --
-- Merge properties into a limit's; a null removes its name.
UPDATE limits
SET properties = jsonb_strip_nulls(properties || $3), updated_at = from_ms($4)
WHERE application_id = $1 AND limit_id = $2
RETURNING application_id, limit_id, limit_name, mode, unit, max, threshold_ppm, epoch, properties, "window",
    on_store_down, to_ms(created_at) AS created_ms, to_ms(updated_at) AS updated_ms;

-- reset_limit --
-- Begin a later epoch and keep what the present one came to; nothing comes back if it has begun.
WITH ended AS (
    SELECT * FROM limits WHERE application_id = $1 AND limit_id = $2 AND epoch < $3 FOR UPDATE
), kept AS (
    INSERT INTO limit_history (
        application_id, limit_id, epoch, limit_name, mode, unit, max, totals, reset_at
    )
    SELECT application_id, limit_id, epoch, limit_name, mode, unit, max, $4, from_ms($5)
    FROM ended
)
UPDATE limits AS l
SET epoch = $3, updated_at = from_ms($5)
FROM ended
WHERE l.application_id = ended.application_id AND l.limit_id = ended.limit_id
RETURNING l.application_id, l.limit_id, l.limit_name, l.mode, l.unit, l.max, l.threshold_ppm,
    l.epoch, l.properties, l."window", l.on_store_down, to_ms(l.created_at) AS created_ms, to_ms(l.updated_at) AS updated_ms;

-- read_limit_history --
-- What the resets of a limit ended, latest first.
SELECT limit_id, limit_name, mode, unit, max, totals, epoch, to_ms(reset_at) AS reset_ms
FROM limit_history
WHERE application_id = $1 AND limit_id = $2
ORDER BY epoch DESC
LIMIT $3;

-- delete_limit --
-- Remove a limit with its history, and from all that it is attached to; what rows were charged for
-- it stays.
DELETE FROM limits WHERE application_id = $1 AND limit_id = $2 RETURNING limit_id;

-- read_limit_totals --
-- What landed rows charged a limit in each of its epochs in [$3, $4), latest first, in its unit.
SELECT t.epoch, t.charged, t.input, t.output, t.ok, t.exceeded, t.overrun, t.blocked,
    t.blocked_external, t.failed
FROM limits AS l
JOIN limit_totals AS t USING (application_id, limit_id, unit)
WHERE l.application_id = $1 AND l.limit_id = $2 AND t.epoch >= $3 AND t.epoch < $4
ORDER BY t.epoch DESC
LIMIT $5;
