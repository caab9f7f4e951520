-- read_price_state --
-- What every worker asks again and again: whether a price list, own prices or resources came since.
SELECT
    coalesce((SELECT max(version) FROM price_versions), 0) AS version,
    (SELECT count(*) FROM own_prices) AS own_count,
    coalesce((SELECT max(revision) FROM own_prices), 0) AS own_revision,
    (SELECT count(*) FROM resources) AS resource_count,
    coalesce((SELECT max(revision) FROM resources), 0) AS resource_revision;

-- add_price_version --
-- Put a price list in force; nothing comes back when another one has its number.
INSERT INTO price_versions (version, digest, packaged, files, note, loaded_at, loaded_by)
VALUES ($1, $2, $3, $4, $5, from_ms($6), $7)
ON CONFLICT DO NOTHING
RETURNING version, digest, packaged, note, to_ms(loaded_at) AS loaded_ms, loaded_by;

-- read_price_version --
-- One price list, with its files.
SELECT version, digest, packaged, note, to_ms(loaded_at) AS loaded_ms, loaded_by, files
FROM price_versions
WHERE version = $1;

-- page_price_versions --
-- Price lists without their files, newest first, after a version.
SELECT version, digest, packaged, note, to_ms(loaded_at) AS loaded_ms, loaded_by
FROM price_versions
WHERE $1::integer IS NULL OR version < $1
ORDER BY version DESC
LIMIT $2;

-- set_own_prices --
-- Negotiated prices of an application, or of a credential or limit of it, from now on.
INSERT INTO own_prices (application_id, kind, name, rates, set_at, set_by)
VALUES ($1, $2, $3, $4, from_ms($5), $6)
RETURNING revision, application_id, kind, name, rates, to_ms(set_at) AS set_ms, set_by;

-- read_own_prices --
-- What is negotiated now, of an application or (null) of all: each latest revision that has rates.
SELECT revision, application_id, kind, name, rates, set_ms, set_by,
    to_ms(l.created_at) AS limit_created_ms
FROM (
    SELECT DISTINCT ON (application_id, kind, name)
        revision, application_id, kind, name, rates, to_ms(set_at) AS set_ms, set_by, limit_id
    FROM own_prices
    WHERE $1::uuid IS NULL OR application_id = $1
    ORDER BY application_id, kind, name, revision DESC
) AS latest
LEFT JOIN limits AS l USING (application_id, limit_id)
WHERE rates <> '[]'
ORDER BY application_id, kind, name;
