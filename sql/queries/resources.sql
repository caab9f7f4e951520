-- create_resource --
-- Another version of a resource.
INSERT INTO resources (
    resource_id, application_id, category, resource, units, max_input_units, max_output_units,
    max_total_units, starts_at, created_by, proxy_allowed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, from_ms($9), $10, $11)
RETURNING resource_id, revision, application_id, category, resource, units, max_input_units,
    max_output_units, max_total_units, to_ms(starts_at) AS starts_ms, created_by,
    proxy_allowed;

-- read_resources --
-- All versions of an application's resources or (null) of everybody's; of a category and a name if asked.
SELECT resource_id, revision, application_id, category, resource, units, max_input_units,
    max_output_units, max_total_units, to_ms(starts_at) AS starts_ms, created_by,
    proxy_allowed
FROM resources
WHERE ($1::uuid IS NULL OR application_id = $1)
  AND ($2::text IS NULL OR category = $2)
  AND ($3::text IS NULL OR resource = $3)
ORDER BY category, resource, starts_at, revision;

-- count_resources --
-- How many versions an application has.
SELECT count(*) FROM resources WHERE application_id = $1;

-- delete_resources --
-- Take away a category, a resource of it, or one version; gives what is gone.
DELETE FROM resources
WHERE application_id = $1
  AND category = $2
  AND ($3::text IS NULL OR resource = $3)
  AND ($4::uuid IS NULL OR resource_id = $4)
RETURNING resource_id, revision, application_id, category, resource, units, max_input_units,
    max_output_units, max_total_units, to_ms(starts_at) AS starts_ms, created_by,
    proxy_allowed;
