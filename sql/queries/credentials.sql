-- create_credential --
-- Add a credential with its secret; nothing comes back when the slug or id is taken.
INSERT INTO credentials (
    credential_id, application_id, slug, name, provider, origin, is_default, blocked, last4, secret_at,
    created_at, created_by, updated_at, expires_at, note, model_config, terms, sealed, row_key, wrapped_by
)
VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9, from_ms($10), from_ms($11), $12, from_ms($13), from_ms($14), $15,
    $16, $17, $18, $19, $20
)
ON CONFLICT (application_id, slug) DO NOTHING
RETURNING credential_id, application_id, slug, name, provider, origin, is_default, blocked, last4,
    to_ms(secret_at) AS secret_ms, to_ms(created_at) AS created_ms, created_by,
    to_ms(updated_at) AS updated_ms, to_ms(expires_at) AS expires_ms, note, model_config, terms;

-- read_credential --
-- One credential by its slug, without its secret.
SELECT credential_id, application_id, slug, name, provider, origin, is_default, blocked, last4,
    to_ms(secret_at) AS secret_ms, to_ms(created_at) AS created_ms, created_by,
    to_ms(updated_at) AS updated_ms, to_ms(expires_at) AS expires_ms, note, model_config, terms
FROM credentials
WHERE application_id = $1 AND slug = $2;

-- lock_credential --
-- The same, for a change that depends on what there is.
SELECT credential_id, application_id, slug, name, provider, origin, is_default, blocked, last4,
    to_ms(secret_at) AS secret_ms, to_ms(created_at) AS created_ms, created_by,
    to_ms(updated_at) AS updated_ms, to_ms(expires_at) AS expires_ms, note, model_config, terms
FROM credentials
WHERE application_id = $1 AND slug = $2
FOR NO KEY UPDATE;

-- read_sealed_credential --
-- One credential as calls use it, with its sealed secret.
SELECT credential_id, slug, provider, origin, blocked, sealed, row_key, wrapped_by,
    to_ms(expires_at) AS expires_ms, model_config
FROM credentials
WHERE application_id = $1 AND slug = $2;

-- read_default_credentials --
-- Which credential serves an application's calls by itself, by provider.
SELECT provider, slug
FROM credentials
WHERE application_id = $1 AND is_default;

-- page_credentials_newest --
-- A page of an application's credentials (null: of all), newest first, after (created_ms, id).
SELECT credential_id, application_id, slug, name, provider, origin, is_default, blocked, last4,
    to_ms(secret_at) AS secret_ms, to_ms(created_at) AS created_ms, created_by,
    to_ms(updated_at) AS updated_ms, to_ms(expires_at) AS expires_ms, note, model_config, terms
FROM credentials
WHERE ($1::uuid IS NULL OR application_id = $1)
  AND ($2::bigint IS NULL OR (created_at, credential_id) < (from_ms($2), $3::uuid))
ORDER BY created_at DESC, credential_id DESC
LIMIT $4;

-- page_credentials_oldest --
-- A page of an application's credentials (null: of all), oldest first, after (created_ms, id).
SELECT credential_id, application_id, slug, name, provider, origin, is_default, blocked, last4,
    to_ms(secret_at) AS secret_ms, to_ms(created_at) AS created_ms, created_by,
    to_ms(updated_at) AS updated_ms, to_ms(expires_at) AS expires_ms, note, model_config, terms
FROM credentials
WHERE ($1::uuid IS NULL OR application_id = $1)
  AND ($2::bigint IS NULL OR (created_at, credential_id) > (from_ms($2), $3::uuid))
ORDER BY created_at, credential_id
LIMIT $4;

-- count_credentials --
-- How many credentials an application has.
SELECT count(*) FROM credentials WHERE application_id = $1;

-- number_credentials --
-- An application's credentials, newest first, from a number on.
SELECT credential_id, application_id, slug, name, provider, origin, is_default, blocked, last4,
    to_ms(secret_at) AS secret_ms, to_ms(created_at) AS created_ms, created_by,
    to_ms(updated_at) AS updated_ms, to_ms(expires_at) AS expires_ms, note, model_config, terms
FROM credentials
WHERE application_id = $1
ORDER BY created_at DESC, credential_id DESC
OFFSET $2 LIMIT $3;

-- update_credential --
-- Change a credential, but not its secret.
UPDATE credentials
SET name = $3, origin = $4, is_default = $5, blocked = $6, updated_at = from_ms($7),
    expires_at = from_ms($8), note = $9, model_config = $10, terms = $11
WHERE application_id = $1 AND slug = $2;

-- update_credential_and_secret --
-- Change a credential with its secret; nulls void that.
UPDATE credentials
SET name = $3, origin = $4, is_default = $5, blocked = $6, updated_at = from_ms($7),
    expires_at = from_ms($8), note = $9, model_config = $10, terms = $11,
    last4 = $12, secret_at = from_ms($13), sealed = $14, row_key = $15, wrapped_by = $16
WHERE application_id = $1 AND slug = $2;

-- clear_default_credential --
-- Make room for another default of a provider.
UPDATE credentials
SET is_default = false
WHERE application_id = $1 AND provider = $2 AND is_default AND slug <> $3
RETURNING slug;

-- delete_credential --
-- Remove a credential with its secret.
DELETE FROM credentials WHERE application_id = $1 AND slug = $2
RETURNING slug;
