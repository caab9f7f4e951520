-- begin_acting --
-- Say who acts in this transaction; with an application, become the tenant role and see it alone.
SELECT
    set_config('xproxy.actor', $1, true),
    set_config('xproxy.application', coalesce($2, ''), true),
    CASE WHEN $2 IS NOT NULL THEN set_config('role', 'xproxy_tenant', true) END;

-- note_audit --
-- Put on record what no table shows: an action, on what, and with which particulars.
INSERT INTO audit (application_id, actor, action, object, object_id, after)
VALUES ($1, audit_actor(), $2, $3, $4, $5);

-- page_audit --
-- A page of the audit log, newest first, before an id; null asks for anything.
SELECT audit_id, to_ms(at) AS at_ms, application_id, actor, action, object, object_id, before, after
FROM audit
WHERE ($1::uuid IS NULL OR application_id = $1)
  AND ($2::text IS NULL OR object = $2)
  AND ($3::text IS NULL OR object_id = $3)
  AND ($4::text IS NULL OR actor ->> 'key_id' = $4)
  AND ($5::bigint IS NULL OR at >= from_ms($5))
  AND ($6::bigint IS NULL OR at < from_ms($6))
  AND ($7::bigint IS NULL OR audit_id < $7)
ORDER BY audit_id DESC
LIMIT $8;
