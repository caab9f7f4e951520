-- create_profile --
-- Set somebody up; nothing comes back when there is one of this kind and name.
INSERT INTO profiles (
    application_id, kind, name, blocked, models, rate_limits, terms, details, created_at, updated_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, from_ms($9), from_ms($9))
ON CONFLICT DO NOTHING
RETURNING kind, name, blocked, models, rate_limits, terms, details, to_ms(created_at) AS created_ms,
    to_ms(updated_at) AS updated_ms;

-- read_profiles --
-- Those of a kind with these names.
SELECT kind, name, blocked, models, rate_limits, terms, details, to_ms(created_at) AS created_ms,
    to_ms(updated_at) AS updated_ms
FROM profiles
WHERE application_id = $1 AND kind = $2 AND name = ANY ($3::text[]);

-- list_profiles --
-- Those of a kind, newest first, from the $4th on; of one budget or (null) any.
SELECT kind, name, blocked, models, rate_limits, terms, details, to_ms(created_at) AS created_ms,
    to_ms(updated_at) AS updated_ms
FROM profiles
WHERE application_id = $1 AND kind = $2 AND ($3::text IS NULL OR terms ->> 'budget_id' = $3)
ORDER BY created_at DESC, name DESC
OFFSET $4 LIMIT $5;

-- count_profiles --
-- How many there are of a kind.
SELECT count(*) FROM profiles WHERE application_id = $1 AND kind = $2;

-- update_profile --
-- Change what is set of somebody, all of it.
UPDATE profiles
SET blocked = $4, models = $5, rate_limits = $6, terms = $7, details = $8, updated_at = from_ms($9)
WHERE application_id = $1 AND kind = $2 AND name = $3
RETURNING kind, name, blocked, models, rate_limits, terms, details, to_ms(created_at) AS created_ms,
    to_ms(updated_at) AS updated_ms;

-- delete_profile --
-- Remove what is set of somebody.
DELETE FROM profiles WHERE application_id = $1 AND kind = $2 AND name = $3 RETURNING name;

-- read_profile_rules --
-- What calls are held to: of all in an application who are blocked, or have models or rates of their own.
SELECT kind, name, blocked, models, rate_limits
FROM profiles
WHERE application_id = $1 AND kind <> 'budget'
  AND (blocked OR cardinality(models) > 0 OR rate_limits <> '{}');
