-- create_key --
-- Add a key by its digest; nothing comes back when the digest or id is taken.
INSERT INTO keys (
    key_id, application_id, role, name, digest, last4, permissions, limit_ids, user_id, team,
    customer, created_at, expires_at, rate_limits, blocked, models, aliases, tags, terms, details
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, from_ms($12), from_ms($13), $14, $15, $16, $17, $18,
    $19, $20)
ON CONFLICT DO NOTHING
RETURNING key_id, application_id, role, name, last4, permissions, limit_ids, rate_limits, user_id,
    team, customer, to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms,
    to_ms(previous_ends_at) AS previous_ends_ms, to_ms(last_used_at) AS last_used_ms,
    last_used_from, blocked, models, aliases, tags, terms, details;

-- read_key_by_digest --
-- Who a caller is, at a moment; a key that is blocked, expired or rotated away is as good as none.
SELECT k.key_id, k.application_id, k.role, k.name, k.last4, k.permissions, k.limit_ids, k.rate_limits,
    k.user_id, k.team, k.customer, to_ms(k.created_at) AS created_ms,
    to_ms(least(k.expires_at, CASE WHEN k.digest <> $1 THEN k.previous_ends_at END)) AS expires_ms,
    to_ms(k.previous_ends_at) AS previous_ends_ms, to_ms(k.last_used_at) AS last_used_ms,
    k.last_used_from, k.blocked, k.models, k.aliases, k.tags, k.terms, k.details, coalesce(a.idempotency, false) AS idempotent
FROM keys AS k
LEFT JOIN applications AS a USING (application_id)
WHERE (k.digest = $1 OR (k.previous_digest = $1 AND k.previous_ends_at > from_ms($2)))
  AND NOT k.blocked AND (k.expires_at IS NULL OR k.expires_at > from_ms($2));

-- read_key --
-- One key by its id, of an application or (null) of any.
SELECT key_id, application_id, role, name, last4, permissions, limit_ids, rate_limits, user_id,
    team, customer, to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms,
    to_ms(previous_ends_at) AS previous_ends_ms, to_ms(last_used_at) AS last_used_ms,
    last_used_from, blocked, models, aliases, tags, terms, details
FROM keys
WHERE key_id = $1 AND ($2::uuid IS NULL OR application_id = $2);

-- read_key_id --
-- The key that a secret is of at a moment, whether it is good or not.
SELECT key_id
FROM keys
WHERE application_id = $1 AND (digest = $2 OR (previous_digest = $2 AND previous_ends_at > from_ms($3)));

-- list_keys --
-- Keys that act for an application, newest first, from the $6th on; of one user, team, name and budget
-- each, or (null) any.
SELECT key_id, application_id, role, name, last4, permissions, limit_ids, rate_limits, user_id,
    team, customer, to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms,
    to_ms(previous_ends_at) AS previous_ends_ms, to_ms(last_used_at) AS last_used_ms,
    last_used_from, blocked, models, aliases, tags, terms, details
FROM keys
WHERE application_id = $1 AND role <> 'admin'
  AND ($2::text IS NULL OR user_id = $2)
  AND ($3::text IS NULL OR team = $3)
  AND ($4::text IS NULL OR name = $4)
  AND ($5::text IS NULL OR terms ->> 'budget_id' = $5)
ORDER BY created_at DESC, key_id DESC
OFFSET $6 LIMIT $7;

-- count_keys --
-- How many keys `list_keys` lists in all.
SELECT count(*)
FROM keys
WHERE application_id = $1 AND role <> 'admin'
  AND ($2::text IS NULL OR user_id = $2)
  AND ($3::text IS NULL OR team = $3)
  AND ($4::text IS NULL OR name = $4)
  AND ($5::text IS NULL OR terms ->> 'budget_id' = $5);

-- page_keys_newest --
-- A page of keys of an application (null: of all), newest first, after (created_ms, key_id).
SELECT key_id, application_id, role, name, last4, permissions, limit_ids, rate_limits, user_id,
    team, customer, to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms,
    to_ms(previous_ends_at) AS previous_ends_ms, to_ms(last_used_at) AS last_used_ms,
    last_used_from, blocked, models, aliases, tags, terms, details
FROM keys
WHERE ($1::uuid IS NULL OR application_id = $1)
  AND ($2::bigint IS NULL OR (created_at, key_id) < (from_ms($2), $3::uuid))
ORDER BY created_at DESC, key_id DESC
LIMIT $4;

-- page_keys_oldest --
-- A page of keys of an application (null: of all), oldest first, after (created_ms, key_id).
SELECT key_id, application_id, role, name, last4, permissions, limit_ids, rate_limits, user_id,
    team, customer, to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms,
    to_ms(previous_ends_at) AS previous_ends_ms, to_ms(last_used_at) AS last_used_ms,
    last_used_from, blocked, models, aliases, tags, terms, details
FROM keys
WHERE ($1::uuid IS NULL OR application_id = $1)
  AND ($2::bigint IS NULL OR (created_at, key_id) > (from_ms($2), $3::uuid))
ORDER BY created_at, key_id
LIMIT $4;

-- update_key --
-- Change a key: for each of name, permissions, limits, user, team, customer, expiry, blocked, rates,
-- models, aliases, tags, terms and details a flag says whether the value beside it takes the old one's
-- place.
UPDATE keys
SET name = CASE WHEN $3 THEN $4 ELSE name END,
    permissions = CASE WHEN $5 THEN $6 ELSE permissions END,
    limit_ids = CASE WHEN $7 THEN $8 ELSE limit_ids END,
    user_id = CASE WHEN $9 THEN $10 ELSE user_id END,
    team = CASE WHEN $11 THEN $12 ELSE team END,
    customer = CASE WHEN $13 THEN $14 ELSE customer END,
    expires_at = CASE WHEN $15 THEN from_ms($16) ELSE expires_at END,
    blocked = CASE WHEN $17 THEN $18 ELSE blocked END,
    rate_limits = CASE WHEN $19 THEN $20 ELSE rate_limits END,
    models = CASE WHEN $21 THEN $22 ELSE models END,
    aliases = CASE WHEN $23 THEN $24 ELSE aliases END,
    tags = CASE WHEN $25 THEN $26 ELSE tags END,
    terms = CASE WHEN $27 THEN $28 ELSE terms END,
    details = CASE WHEN $29 THEN $30 ELSE details END
WHERE key_id = $1 AND ($2::uuid IS NULL OR application_id = $2)
RETURNING key_id, application_id, role, name, last4, permissions, limit_ids, rate_limits, user_id,
    team, customer, to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms,
    to_ms(previous_ends_at) AS previous_ends_ms, to_ms(last_used_at) AS last_used_ms,
    last_used_from, blocked, models, aliases, tags, terms, details, digest, previous_digest;

-- rotate_key --
-- Give a key another secret; the one it had is good for a while, the one before that no more.
WITH before AS (
    SELECT key_id, digest, previous_digest FROM keys
    WHERE key_id = $1 AND ($2::uuid IS NULL OR application_id = $2)
    FOR UPDATE
)
UPDATE keys AS k
SET digest = $3, last4 = $4,
    previous_digest = CASE WHEN $5::bigint IS NOT NULL THEN k.digest END,
    previous_ends_at = from_ms($5)
FROM before
WHERE k.key_id = before.key_id
RETURNING k.key_id, application_id, role, name, last4, permissions, limit_ids, rate_limits, user_id,
    team, customer, to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms,
    to_ms(previous_ends_at) AS previous_ends_ms, to_ms(last_used_at) AS last_used_ms,
    last_used_from, blocked, models, aliases, tags, terms, details, before.digest, before.previous_digest;

-- read_digests_bound_by --
-- The digests of the keys that a limit binds.
SELECT digest, previous_digest
FROM keys
WHERE application_id = $1 AND $2 = ANY (limit_ids);

-- note_key_use --
-- When, and from where, keys were last used; what is known of later uses stays.
WITH used AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS u (key_id, at_ms, address)
), locked AS (
    SELECT key_id FROM keys WHERE key_id = ANY ($1) ORDER BY key_id FOR NO KEY UPDATE
)
UPDATE keys AS k
SET last_used_at = from_ms(used.at_ms), last_used_from = used.address
FROM used JOIN locked USING (key_id)
WHERE k.key_id = used.key_id
  AND (k.last_used_at IS NULL OR k.last_used_at < from_ms(used.at_ms));

-- delete_key --
-- Remove a key; its digests come back, for whoever remembers them.
DELETE FROM keys
WHERE key_id = $1 AND ($2::uuid IS NULL OR application_id = $2)
RETURNING digest, previous_digest;

-- read_some_keys --
-- Those of an application's keys that have these ids.
SELECT key_id, application_id, role, name, last4, permissions, limit_ids, rate_limits, user_id,
    team, customer, to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms,
    to_ms(previous_ends_at) AS previous_ends_ms, to_ms(last_used_at) AS last_used_ms,
    last_used_from, blocked, models, aliases, tags, terms, details
FROM keys
WHERE application_id = $1 AND key_id = ANY ($2::uuid[]);
