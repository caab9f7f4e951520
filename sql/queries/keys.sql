-- create_key --
-- Add a key by its digest; nothing comes back when the digest or id is taken.
INSERT INTO keys (
    key_id, application_id, role, name, digest, last4, permissions, limit_ids, created_at, expires_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, from_ms($9), from_ms($10))
ON CONFLICT DO NOTHING
RETURNING key_id, application_id, role, name, last4, permissions, limit_ids,
    to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms, blocked;

-- read_key_by_digest --
-- Who a caller is: blocked and expired keys too, so that the refusal can say which.
SELECT key_id, application_id, role, name, last4, permissions, limit_ids,
    to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms, blocked
FROM keys
WHERE digest = $1;

-- read_key --
-- One key by its id, of an application or (null) of any.
SELECT key_id, application_id, role, name, last4, permissions, limit_ids,
    to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms, blocked
FROM keys
WHERE key_id = $1 AND ($2::uuid IS NULL OR application_id = $2);

-- page_keys_newest --
-- A page of keys of an application (null: of all), newest first, after (created_ms, key_id).
SELECT key_id, application_id, role, name, last4, permissions, limit_ids,
    to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms, blocked
FROM keys
WHERE ($1::uuid IS NULL OR application_id = $1)
  AND ($2::bigint IS NULL OR (created_at, key_id) < (from_ms($2), $3::uuid))
ORDER BY created_at DESC, key_id DESC
LIMIT $4;

-- page_keys_oldest --
-- A page of keys of an application (null: of all), oldest first, after (created_ms, key_id).
SELECT key_id, application_id, role, name, last4, permissions, limit_ids,
    to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms, blocked
FROM keys
WHERE ($1::uuid IS NULL OR application_id = $1)
  AND ($2::bigint IS NULL OR (created_at, key_id) > (from_ms($2), $3::uuid))
ORDER BY created_at, key_id
LIMIT $4;

-- block_key --
-- Stop a key from calling, or let it call again.
UPDATE keys
SET blocked = $3
WHERE key_id = $1 AND ($2::uuid IS NULL OR application_id = $2)
RETURNING key_id, application_id, role, name, last4, permissions, limit_ids,
    to_ms(created_at) AS created_ms, to_ms(expires_at) AS expires_ms, blocked;

-- delete_key --
-- Remove a key; the digest comes back, for whoever remembers it.
DELETE FROM keys
WHERE key_id = $1 AND ($2::uuid IS NULL OR application_id = $2)
RETURNING digest;
