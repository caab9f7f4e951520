-- read_secrets --
-- Our own random keys, wrapped.
SELECT name, wrapped, wrapped_by FROM secrets;

-- read_secret --
-- A random key of ours, wrapped.
SELECT wrapped, wrapped_by FROM secrets WHERE name = $1;

-- add_secret --
-- Keep a random key, if there is none of this name.
INSERT INTO secrets (name, wrapped, wrapped_by) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING;

-- read_master_in_force --
-- The id of the master secret that seals now; it does not change before the transaction ends.
SELECT master_in_force();

-- expire_secrets --
-- Forget the keys of days before $2, whose names begin with $1.
DELETE FROM secrets WHERE starts_with(name, $1) AND name COLLATE "C" < $1 || $2;

-- lock_master --
-- Whoever seals waits from now on; what is sealed is seen by the next statement.
SELECT FROM secrets WHERE name = 'key pepper' FOR UPDATE;

-- lock_secrets --
-- Our own random keys, for wrapping them anew.
SELECT name, wrapped, wrapped_by FROM secrets ORDER BY name FOR UPDATE;

-- lock_row_keys --
-- What is wrapped by another master secret than this, for wrapping it anew.
SELECT credential_id, application_id, slug, provider, origin, row_key, wrapped_by
FROM credentials
WHERE wrapped_by <> $1
ORDER BY credential_id
FOR UPDATE;

-- rewrap_secret --
-- A random key of ours under another master secret.
UPDATE secrets SET wrapped = $2, wrapped_by = $3 WHERE name = $1;

-- rewrap_row_keys --
-- Credentials' row keys under another master secret.
UPDATE credentials AS c
SET row_key = its.row_key, wrapped_by = $3
FROM unnest($1::uuid[], $2::bytea[]) AS its (credential_id, row_key)
WHERE c.credential_id = its.credential_id;

-- count_wrapped --
-- How much each master secret wraps, by its id.
SELECT wrapped_by, count(*) AS number
FROM (
    SELECT wrapped_by FROM secrets
    UNION ALL
    SELECT wrapped_by FROM credentials WHERE wrapped_by IS NOT NULL
) AS everything
GROUP BY wrapped_by
ORDER BY wrapped_by;

-- forget_secrets --
-- What nobody can open any more: our own keys, and the secrets of credentials.
WITH gone AS (DELETE FROM secrets)
UPDATE credentials
SET sealed = NULL, row_key = NULL, wrapped_by = NULL, last4 = NULL, secret_at = NULL
WHERE sealed IS NOT NULL;

-- count_applications --
-- Whether this database has been used before.
SELECT count(*) FROM applications;
