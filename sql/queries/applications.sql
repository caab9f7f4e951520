-- create_application --
-- Add a tenant; nothing comes back when its name or id is taken.
INSERT INTO applications (application_id, name, created_at)
VALUES ($1, $2, from_ms($3))
ON CONFLICT DO NOTHING
RETURNING application_id, name, idempotency, to_ms(created_at) AS created_ms;

-- read_application --
-- One tenant by its id.
SELECT application_id, name, idempotency, to_ms(created_at) AS created_ms
FROM applications
WHERE application_id = $1;

-- read_application_by_name --
-- One tenant by its name.
SELECT application_id, name, idempotency, to_ms(created_at) AS created_ms
FROM applications
WHERE name = $1;

-- page_applications_newest --
-- A page of tenants, newest first, after (created_ms, application_id).
SELECT application_id, name, idempotency, to_ms(created_at) AS created_ms
FROM applications
WHERE $1::bigint IS NULL OR (created_at, application_id) < (from_ms($1), $2::uuid)
ORDER BY created_at DESC, application_id DESC
LIMIT $3;

-- page_applications_oldest --
-- A page of tenants, oldest first, after (created_ms, application_id).
SELECT application_id, name, idempotency, to_ms(created_at) AS created_ms
FROM applications
WHERE $1::bigint IS NULL OR (created_at, application_id) > (from_ms($1), $2::uuid)
ORDER BY created_at, application_id
LIMIT $3;

-- update_application --
-- Change an application's name, or whether repeated calls are made once; null leaves as it is.
UPDATE applications
SET name = coalesce($2, name), idempotency = coalesce($3, idempotency)
WHERE application_id = $1
RETURNING application_id, name, idempotency, to_ms(created_at) AS created_ms;

-- delete_application --
-- Remove a tenant with its keys and limits; its usage stays.
DELETE FROM applications WHERE application_id = $1 RETURNING application_id;
