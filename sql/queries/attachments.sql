-- attach_limit --
-- Have a limit bind what has a name; nothing comes back when there is no such limit.
WITH found AS (
    SELECT application_id, limit_id FROM limits WHERE application_id = $1 AND limit_id = $4
    FOR KEY SHARE
), attached AS (
    INSERT INTO attachments (application_id, kind, name, limit_id, attached_at)
    SELECT application_id, $2, $3, limit_id, from_ms($5) FROM found
    ON CONFLICT DO NOTHING
)
SELECT limit_id FROM found;

-- detach_limit --
-- Have a limit no longer bind what has a name.
DELETE FROM attachments
WHERE application_id = $1 AND kind = $2 AND name = $3 AND limit_id = $4
RETURNING limit_id;

-- read_attachments --
-- All that limits of an application are attached to.
SELECT kind, name, array_agg(limit_id ORDER BY limit_id) AS limit_ids
FROM attachments
WHERE application_id = $1
GROUP BY kind, name;

-- count_attachments --
-- How many attachments an application has, and how many of them what has this name.
SELECT count(*) AS of_application, count(*) FILTER (WHERE kind = $2 AND name = $3) AS of_name
FROM attachments
WHERE application_id = $1;

-- is_attached --
-- Whether a limit is attached to anything, keys included.
SELECT EXISTS (SELECT FROM attachments WHERE application_id = $1 AND limit_id = $2)
    OR EXISTS (SELECT FROM keys WHERE application_id = $1 AND $2 = ANY (limit_ids));

-- page_attachments --
-- A page of attachments, of one (or, null, any) kind, name and limit, in the order of these.
SELECT kind, name, limit_id, to_ms(attached_at) AS attached_ms
FROM attachments
WHERE application_id = $1
  AND ($2::text IS NULL OR kind = $2)
  AND ($3::text IS NULL OR name = $3)
  AND ($4::text IS NULL OR limit_id = $4)
  AND ($5::text IS NULL OR (kind, name, limit_id) > ($5::text, $6::text, $7::text))
ORDER BY kind, name, limit_id
LIMIT $8;
