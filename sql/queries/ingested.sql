-- claim_ingested --
-- Put down the names of calls that are reported, with the request each is to be; those there are stay.
INSERT INTO ingested (application_id, source, id, request_id)
SELECT $1, source, id, request_id
FROM unnest($2::text[], $3::text[], $4::uuid[]) AS asked (source, id, request_id)
ORDER BY source, id  -- who reports the same calls at once waits in one order
ON CONFLICT DO NOTHING;

-- read_ingested --
-- Which request each of these names stands for.
SELECT asked.source, asked.id, its.request_id
FROM unnest($2::text[], $3::text[]) AS asked (source, id)
CROSS JOIN LATERAL (
    SELECT request_id
    FROM ingested
    WHERE application_id = $1 AND source = asked.source AND id = asked.id
    LIMIT 1  -- each name by itself, by the index: a plan made while the table was small would scan it
) AS its;

-- move_ingested --
-- Have the names of a request, which was none after all, stand for another.
UPDATE ingested
SET request_id = $4
WHERE application_id = $1
  AND (source, id) IN (SELECT * FROM unnest($2::text[], $3::text[]))
  AND request_id = $5;
