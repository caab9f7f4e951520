-- read_request --
-- Every entry of the latest attempt of a call, of one application or (null) of any.
SELECT u.*, to_ms(u.at) AS at_ms
FROM usage AS u
WHERE ($1::uuid IS NULL OR u.application_id = $1)
  AND u.request_id = $2
  AND u.attempt = (
      SELECT max(attempt) FROM usage
      WHERE ($1::uuid IS NULL OR application_id = $1) AND request_id = $2)
ORDER BY u.at, u.entry;

-- read_request_ids --
-- The latest call of an application for each of these ids, which a category of provider gave it.
SELECT category, id, request_id
FROM unnest($2::text[], $3::text[]) AS asked (category, id)
CROSS JOIN LATERAL (
    -- Not by order and limit: Postgres may then read all rows of the application, latest first.
    SELECT max(u.request_id::text)::uuid AS request_id
    FROM usage AS u
    WHERE u.application_id = $1 AND u.category = asked.category AND u.provider_id = asked.id
) AS latest
WHERE request_id IS NOT NULL;

-- update_request_properties --
-- Merge properties into those of every entry of a call; a null removes its name.
UPDATE usage
SET properties = jsonb_strip_nulls(properties || $3)
WHERE application_id = $1 AND request_id = $2
RETURNING request_id;

-- read_attempt_landed --
-- Whether an attempt of a call has its row.
SELECT EXISTS (
    SELECT FROM usage
    WHERE application_id = $1 AND request_id = $2 AND attempt = $3 AND entry = 'call');

-- read_refused --
-- The latest calls of an application that a limit refused, newest first.
SELECT u.*, to_ms(u.at) AS at_ms
FROM usage AS u
WHERE u.application_id = $1
  AND u.refusals IS NOT NULL
  AND u.refusals @> jsonb_build_array(jsonb_build_object('limit_id', $2::text))
ORDER BY u.request_id DESC
LIMIT $3;
