-- The truth about our tables, with the reasons. `migrations/` leads here step by step, and a test
-- proves that it does. Valid on PostgreSQL 15.
--
-- Units: money is pico-USD (10^-12), `bigint` in a row (at most $9.2 million a call) and
-- `numeric(36,0)` in a sum, never a float. Times are `timestamptz`; the service speaks milliseconds.

-- Which steps of migrations/ this database has taken.
CREATE TABLE schema_migrations (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    sha256      text NOT NULL,                        -- of the step's text: it may not change later
    applied_at  timestamptz NOT NULL DEFAULT now()
);

-- The role tenant reads run under: it is no owner, so row-level security binds it. Roles belong to
-- the whole server, so another of our databases may have made it; a user who may not create roles
-- needs one made for him.
DO $$
DECLARE
    made boolean := false;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'xproxy_tenant') THEN
        BEGIN
            CREATE ROLE xproxy_tenant NOLOGIN;
            made := true;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;  -- another database made it just now
        END;
    END IF;
    -- Since PostgreSQL 16 who makes a role may grant it, himself included, but not yet take it on.
    IF made OR NOT pg_has_role(current_user, 'xproxy_tenant', 'MEMBER') THEN
        GRANT xproxy_tenant TO CURRENT_USER;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'user % may not create or take on the role xproxy_tenant', current_user USING
            ERRCODE = 'insufficient_privilege',
            HINT = format(
                'As an administrator: CREATE ROLE xproxy_tenant NOLOGIN; GRANT xproxy_tenant TO %I;',
                current_user);
END
$$;

-- Times and UUIDv7: the first 48 bits of a request id are its milliseconds.
CREATE FUNCTION from_ms(ms bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_timestamp(ms / 1000.0);
CREATE FUNCTION to_ms(at timestamptz) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
    RETURN floor(extract(epoch FROM at) * 1000)::bigint;
CREATE FUNCTION uuid7_ms(id uuid) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ('x0000' || substr(id::text, 1, 8) || substr(id::text, 10, 4))::bit(64)::bigint;
CREATE FUNCTION uuid7_floor(ms bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN rpad(lpad(to_hex(least(greatest(ms, 0), 281474976710655)), 12, '0'), 32, '0')::uuid;

-- The tenants.
CREATE TABLE applications (
    application_id  uuid PRIMARY KEY,
    name            text NOT NULL UNIQUE,
    created_at      timestamptz NOT NULL,
    idempotency     boolean NOT NULL DEFAULT false    -- whether calls with an Idempotency-Key are made once
);

-- Who may call. A key itself is never stored: `digest` is its HMAC-SHA256.
CREATE TABLE keys (
    key_id          uuid PRIMARY KEY,
    application_id  uuid REFERENCES applications ON DELETE CASCADE,
    role            text NOT NULL CHECK (role IN ('admin', 'app', 'read')),
    name            text NOT NULL,
    digest          bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),  -- found by it on every miss
    last4           text NOT NULL,                    -- enough for a person to tell his keys apart
    permissions     text[] NOT NULL DEFAULT '{}',
    limit_ids       text[] NOT NULL DEFAULT '{}',     -- bind every call of the key
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz,                      -- null: never
    blocked         boolean NOT NULL DEFAULT false,
    user_id         text,                             -- whom the key acts for: what is attached to them
    team            text,                             -- binds its calls
    customer        text,
    previous_digest bytea UNIQUE CHECK (octet_length(previous_digest) = 32),  -- of the secret before the last
    previous_ends_at timestamptz,                     -- rotation: good until then
    last_used_at    timestamptz,                      -- to a minute or so: no call waits for it
    last_used_from  text,
    rate_limits     jsonb NOT NULL DEFAULT '{}',      -- {kind: most}: requests, tokens (per minute), parallel
    models          text[] NOT NULL DEFAULT '{}',     -- the ones it may call; none: all
    aliases         jsonb NOT NULL DEFAULT '{}',      -- {model a call names: the one that is called}
    tags            text[] NOT NULL DEFAULT '{}',     -- of all its calls
    terms           jsonb NOT NULL DEFAULT '{}',      -- the budgets and rates that were asked for: see core/terms.py
    details         jsonb NOT NULL DEFAULT '{}',      -- for answers alone: metadata, who made it
    CHECK (role = 'admin' OR application_id IS NOT NULL),
    CHECK ((previous_digest IS NULL) = (previous_ends_at IS NULL))
);
-- List an application's keys by age, and delete them with it.
CREATE INDEX keys_by_application ON keys (application_id, created_at, key_id);

-- What an application may spend; amounts are in `unit` (pico for usd).
CREATE TABLE limits (
    application_id  uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    limit_id        text NOT NULL,
    limit_name      text NOT NULL,
    mode            text NOT NULL CHECK (mode IN ('allow', 'block', 'hard')),
    unit            text NOT NULL CHECK (unit IN ('usd', 'tokens', 'requests', 'concurrent')),
    max             numeric(36,0) NOT NULL CHECK (max >= 0),   -- 10^12 USD in pico needs 25 digits
    threshold_ppm   integer CHECK (threshold_ppm BETWEEN 0 AND 1000000),
    epoch           bigint NOT NULL,                  -- which life of the counters; only ever grows
    properties      jsonb NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    "window"        jsonb,                            -- {every, zone, ...} or {rolling}: see core.windows
    on_store_down   text CHECK (on_store_down IN ('refuse', 'allow')),  -- null: as the mode has it
    PRIMARY KEY (application_id, limit_id),
    UNIQUE (application_id, limit_name)
);
-- Pages of limits go by age.
CREATE INDEX limits_by_age ON limits (application_id, created_at, limit_id);

-- Limits that bind the calls of a user, a team or a customer, or those that a credential serves, whatever
-- headers say. Read whole for each application; what binds a key is with the key.
CREATE TABLE attachments (
    application_id  uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('credential', 'user', 'team', 'customer')),
    name            text NOT NULL,
    limit_id        text NOT NULL,
    attached_at     timestamptz NOT NULL,
    PRIMARY KEY (application_id, kind, name, limit_id),
    FOREIGN KEY (application_id, limit_id) REFERENCES limits ON DELETE CASCADE
);
-- What a limit is attached to; and its attachments go with it.
CREATE INDEX attachments_by_limit ON attachments (application_id, limit_id);

-- Teams, users and customers that were set up, and budgets, whose terms others take. Who was not is called by
-- his name all the same; so here is only what is set of him. Read for calls, each application's whole: who is
-- blocked, or has models or rates of his own.
CREATE TABLE profiles (
    application_id  uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    kind            text NOT NULL CHECK (kind IN ('budget', 'team', 'user', 'customer')),
    name            text NOT NULL,
    blocked         boolean NOT NULL DEFAULT false,
    models          text[] NOT NULL DEFAULT '{}',     -- the ones that may be called for him; none: all
    rate_limits     jsonb NOT NULL DEFAULT '{}',      -- as keys have them
    terms           jsonb NOT NULL DEFAULT '{}',      -- likewise
    details         jsonb NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (application_id, kind, name)
);
-- Pages go by age.
CREATE INDEX profiles_by_age ON profiles (application_id, kind, created_at, name);

-- So do those in keys, whoever deletes it: a key that names a limit which is not there makes no calls.
CREATE FUNCTION unbind_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE keys SET limit_ids = array_remove(limit_ids, OLD.limit_id)
    WHERE application_id = OLD.application_id AND OLD.limit_id = ANY (limit_ids);
    RETURN NULL;
END
$$;
CREATE TRIGGER unbinds AFTER DELETE ON limits FOR EACH ROW EXECUTE FUNCTION unbind_keys();

-- What each reset ended. `totals` are the live counters as they were before it.
CREATE TABLE limit_history (
    application_id  uuid NOT NULL,
    limit_id        text NOT NULL,
    epoch           bigint NOT NULL,                  -- the one that ended
    limit_name      text NOT NULL,
    mode            text NOT NULL,
    unit            text NOT NULL,
    max             numeric(36,0) NOT NULL,
    totals          jsonb NOT NULL,
    reset_at        timestamptz NOT NULL,
    PRIMARY KEY (application_id, limit_id, epoch),
    FOREIGN KEY (application_id, limit_id) REFERENCES limits ON DELETE CASCADE
);

-- Price lists that were loaded, whole. The newest is in force; while there is none, the package's own
-- is, as version 0. Only ever appended: to go back, an older one is loaded again.
CREATE TABLE price_versions (
    version         integer PRIMARY KEY CHECK (version >= 1),  -- one more than the one it was judged against
    digest          text NOT NULL,                    -- of the files: lists with one digest price alike
    packaged        text NOT NULL,                    -- of the package's own then: since it changed, there are newer ones
    files           jsonb NOT NULL,                   -- texts by file name
    note            text NOT NULL DEFAULT '',
    loaded_at       timestamptz NOT NULL,
    loaded_by       text NOT NULL                     -- a key's id, or who else it was
);

-- Prices that somebody negotiated. Only ever appended; the latest revision is in force, with its own
-- dates, and one without rates ends them. `kind` and `name` say whose they are beside the application:
-- all its calls, those with a credential (its slug), or what a limit is charged. A limit's end with it,
-- so that they are never those of a later limit of its id.
CREATE TABLE own_prices (
    revision        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application_id  uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    kind            text NOT NULL CHECK (kind IN ('application', 'credential', 'limit')),
    name            text NOT NULL DEFAULT '',         -- empty for an application
    rates           jsonb NOT NULL,
    set_at          timestamptz NOT NULL,
    set_by          text NOT NULL,
    limit_id        text GENERATED ALWAYS AS (CASE WHEN kind = 'limit' THEN name END) STORED,
    FOREIGN KEY (application_id, limit_id) REFERENCES limits ON DELETE CASCADE
);

-- What applications priced themselves, by version: of those of one name the one that began last holds.
-- Rows keep the id of the one they were priced by, so a version may go. The catalogue's categories begin
-- with `system.` and are not here.
CREATE TABLE resources (
    resource_id      uuid PRIMARY KEY,
    revision         bigint GENERATED ALWAYS AS IDENTITY,  -- of versions that begin together the later holds
    application_id   uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    category         text NOT NULL CHECK (category NOT LIKE 'system.%'),
    resource         text NOT NULL,
    units            jsonb NOT NULL,                  -- {type: {input_price, output_price}}, decimals of USD for one
    max_input_units  bigint,
    max_output_units bigint,
    max_total_units  bigint,
    starts_at        timestamptz NOT NULL,
    created_by       text NOT NULL,                   -- a key's id, or who else it was
    proxy_allowed    boolean NOT NULL DEFAULT false   -- an administrator set it: it prices proxied calls too
);
-- An application's pages go by name, and a name's versions by when they begin.
CREATE INDEX resources_by_name ON resources (application_id, category, resource, starts_at, revision);

-- Random keys of our own, as the master secret wraps them: with another one they open no more. The
-- pepper of key digests is one; the master secret that wraps it is the one in force.
CREATE TABLE secrets (
    name            text PRIMARY KEY,
    wrapped         bytea NOT NULL,                   -- nonce, ciphertext, tag; see core/sealing.py
    wrapped_by      text NOT NULL                     -- the master secret's id
);

-- The id of the master secret that seals now, which does not change before this transaction ends; for
-- tenants too, who may not see the table.
CREATE FUNCTION master_in_force() RETURNS text LANGUAGE sql SECURITY DEFINER AS $$
    SELECT wrapped_by FROM secrets WHERE name = 'key pepper' FOR SHARE
$$;
DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION master_in_force() SET search_path = %I, pg_temp', current_schema());
END
$$;

-- Providers' credentials. Each is sealed under a key of its own, for its application, itself, its provider
-- and its origin: a row that is copied elsewhere, or changed in one of these, does not open.
CREATE TABLE credentials (
    credential_id   uuid PRIMARY KEY,
    application_id  uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    slug            text NOT NULL CHECK (slug ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    name            text NOT NULL,
    provider        text NOT NULL,                    -- as routes name it: openai, azure.openai
    origin          text,                             -- the only place it goes; null: the operator's base URL
    is_default      boolean NOT NULL DEFAULT false,
    blocked         boolean NOT NULL DEFAULT false,
    sealed          bytea,                            -- these five null: no secret, it was voided
    row_key         bytea,                            -- wrapped; all that a rotation of the master secret changes
    wrapped_by      text,
    last4           text,                             -- enough for a person to tell them apart
    secret_at       timestamptz,
    created_at      timestamptz NOT NULL,
    created_by      text NOT NULL,                    -- a key's id, or who else it was
    updated_at      timestamptz NOT NULL,
    expires_at      timestamptz,                      -- from then on it serves no call
    note            text,
    model_config    jsonb NOT NULL DEFAULT '{}',      -- a deployment of Azure's: see core.credentials
    terms           jsonb NOT NULL DEFAULT '{}',      -- what limits it has by Portkey's routes: see core.virtual_keys
    UNIQUE (application_id, slug),
    CHECK (num_nulls(sealed, row_key, wrapped_by, last4, secret_at) IN (0, 5))
);
-- Pages go by age.
CREATE INDEX credentials_by_age ON credentials (application_id, created_at, credential_id);
-- At most one serves an application's calls to a provider by itself.
CREATE UNIQUE INDEX default_credentials ON credentials (application_id, provider) WHERE is_default;

-- The ledger: one row for every entry of every attempt of every call. Nothing refers to
-- applications or keys: a fact outlives what it is about.
--
-- Partitioned by month of the request id, a UUIDv7, whose time is the call's admission; reports and
-- rollups go by that time, so a late settle or a correction belongs to the month of its call.
-- Lists and maps are `jsonb`. There is no index on labels (tags, limits, users): the common questions
-- are answered by rollups, others read an application's rows of a time range by the primary key, and
-- containment is no leakproof operator, so that row-level security would keep such an index idle.
CREATE TABLE usage (
    application_id       uuid NOT NULL,
    request_id           uuid NOT NULL,
    attempt              integer NOT NULL CHECK (attempt >= 1),
    entry                text NOT NULL,               -- 'call', or the name of a signed correction
    admitted_at          timestamptz NOT NULL,        -- the request id's time
    at                   timestamptz NOT NULL,        -- when this entry was made
    key_id               text,
    surface              text NOT NULL,
    provider             text NOT NULL,
    category             text NOT NULL,
    method               text NOT NULL,
    endpoint             text NOT NULL,
    streamed             boolean NOT NULL,
    status               text NOT NULL CHECK (status IN (
        'ok',          -- the provider answered; charged what it used
        'failed',      -- it did not, or with an error; nothing charged
        'blocked',     -- refused by a limit; never sent
        'unresolved'   -- we died on the way; a correction tells the truth when it comes
    )),
    http_status          integer,
    error_code           text,
    pricing              text NOT NULL CHECK (pricing IN ('priced', 'unpriced', 'free', 'unmetered')),
    estimated            boolean NOT NULL,            -- usage was counted by us, not told by the provider
    model_requested      text,
    model                text,                        -- the one that was priced
    price_as_category    text,
    price_as_resource    text,
    price_id             text,                        -- the dated price: yesterday's call keeps it
    service_tier         text,
    scope                text,
    units                jsonb NOT NULL,              -- {unit: count}, disjoint
    lines                jsonb NOT NULL,              -- {unit: pico}
    input_tokens         bigint NOT NULL,
    output_tokens        bigint NOT NULL,
    input_pico           bigint NOT NULL,
    output_pico          bigint NOT NULL,
    cost_pico            bigint NOT NULL,
    warnings             jsonb NOT NULL,
    provider_id          text,
    user_id              text,
    account_name         text,
    use_case_name        text,
    use_case_id          text,
    use_case_version     integer,
    use_case_step        text,
    tags                 jsonb NOT NULL,
    properties           jsonb NOT NULL,
    use_case_properties  jsonb NOT NULL,
    latency_ms           integer,
    ttft_ms              integer,
    charges              jsonb NOT NULL,              -- [[limit_id, epoch, unit, amount, state]]
    provider_host        text,                        -- the one that was called, if the caller chose it
    price_version        text,                        -- of the price list that price_id is of
    credential           text,                        -- the slug of the stored one that served the call
    limit_costs          jsonb,                       -- {limit_id: [input, output]} of limits with own rates
    refusals             jsonb,                       -- [{limit_id, max, settled, held, needed, holds, ...}]
    retry_count          integer,                     -- tries of the caller's SDK before this; null: it says none
    ttfct_ms             integer,                     -- to the first token of the completion, reasoning aside
    -- The mark that makes landing twice harmless, and the order reports read rows in.
    PRIMARY KEY (application_id, request_id, attempt, entry),
    CHECK (entry <> 'call' OR cost_pico >= 0)         -- only a correction may take back
) PARTITION BY RANGE (request_id);
-- GET /requests/provider/{category}/{id}/result
CREATE INDEX usage_by_provider_id ON usage (application_id, provider_id, category)
    WHERE provider_id IS NOT NULL;
-- An administrator's pages go across applications, newest first; ids grow, so inserts append.
CREATE INDEX usage_by_request ON usage (request_id);

-- GET /limits/{id}/why
CREATE INDEX usage_by_refusal ON usage (application_id, request_id) WHERE refusals IS NOT NULL;

-- Under which names calls that were made elsewhere have been reported, each once: `source` is the category
-- that the id is of. It is written before the call is charged, and names the request that is: whoever
-- reports the call again charges that one, if it was not charged after all. Not partitioned, for its
-- key has no time: the same call may be reported with another one.
CREATE TABLE ingested (
    application_id  uuid NOT NULL,
    source          text NOT NULL,
    id              text NOT NULL,
    request_id      uuid NOT NULL,
    PRIMARY KEY (application_id, source, id)
);

-- What was said in calls that were reported: a call's bodies and headers, compressed and sealed for it under
-- the key of its day, which is in `secrets`. Kept for some days after the call, then deleted, oldest first, in
-- batches; an application's own go with it in the same way. Not partitioned: that would be a partition a day,
-- and one more for each day that somebody reports calls of. Deleting is by the key's order, and room is made at once.
CREATE TABLE bodies (
    application_id  uuid NOT NULL,
    request_id      uuid NOT NULL,                    -- its time is the call's: what is due is told by the key
    sealed          bytea NOT NULL,                   -- nonce, ciphertext, tag; see core/bodies.py
    PRIMARY KEY (application_id, request_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE bodies ALTER COLUMN sealed SET STORAGE EXTERNAL;  -- nothing can compress it

-- Where rows land whose month has no partition (a clock gone wrong, a call of years ago): kept, found by the
-- same indexes, and moved when there is one.
CREATE TABLE usage_default PARTITION OF usage DEFAULT;

-- Make the partitions of a month and of `ahead` months after it; returns how many were new. A month
-- is filled beside the table and attached, so that readers and writers of other months never wait. Who
-- would wait for the lock lets go: behind him all who read the default partition wait (a backup holds it for hours).
CREATE FUNCTION create_usage_partitions(first_at timestamptz, ahead integer) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '2s' AS $$
DECLARE
    starts   timestamp;
    low      uuid;
    high     uuid;
    name     text;
    created  integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('xproxy.create_usage_partitions'));
    FOR n IN 0..ahead LOOP
        starts := date_trunc('month', first_at AT TIME ZONE 'UTC') + make_interval(months => n);
        low := uuid7_floor(to_ms(starts AT TIME ZONE 'UTC'));
        high := uuid7_floor(to_ms((starts + interval '1 month') AT TIME ZONE 'UTC'));
        name := 'usage_' || to_char(starts, 'YYYY_MM');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        LOCK TABLE usage_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE %I (LIKE usage INCLUDING ALL)', name);
        EXECUTE format(
            'WITH moved AS (DELETE FROM usage_default WHERE request_id >= %L AND request_id < %L RETURNING *)'
            ' INSERT INTO %I SELECT * FROM moved', low, high, name);
        EXECUTE format('ALTER TABLE usage ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, low, high);
        created := created + 1;
    END LOOP;
    RETURN created;
END
$$;

-- What a row is counted under: dimension '' is everything, value '' that a row has none. A row with
-- several tags or limits is counted under each.
CREATE FUNCTION usage_dimensions(
    model text, provider text, key_id text, user_id text, use_case text, tags jsonb, charges jsonb
) RETURNS TABLE (dimension text, value text) LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT d.dimension, coalesce(d.value, '')
    FROM (VALUES ('', ''), ('model', model), ('provider', provider), ('key', key_id),
                 ('user', user_id), ('use_case', use_case)) AS d (dimension, value)
    UNION
    SELECT 'tag', coalesce(tag, '')
    FROM (VALUES (true)) AS always LEFT JOIN jsonb_array_elements_text(tags) AS tag ON true
    UNION
    SELECT 'limit', coalesce(charge ->> 0, '')
    FROM (VALUES (true)) AS always LEFT JOIN jsonb_array_elements(charges) AS charge ON true;
END;

-- As how many calls an entry counts: a call that moves from some sums to others is taken back and put down
-- anew, other corrections are of amounts alone.
CREATE FUNCTION calls_of(entry text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN entry = 'call' OR entry LIKE '%:now' THEN 1 WHEN entry LIKE '%:was' THEN -1 ELSE 0 END;

-- Rows that match; a null asks for anything. [low, high) are request ids: a time range.
CREATE FUNCTION usage_matching(
    application uuid, low uuid, high uuid, key_is text, limit_is text, user_is text,
    use_case_is text, tag_is text, model_is text, provider_is text, status_is text
) RETURNS SETOF usage LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT u.*
    FROM usage AS u
    WHERE (application IS NULL OR u.application_id = application)
      AND u.request_id >= low
      AND u.request_id < high
      AND (key_is IS NULL OR u.key_id = key_is)
      AND (user_is IS NULL OR u.user_id = user_is)
      AND (use_case_is IS NULL OR u.use_case_name = use_case_is)
      AND (model_is IS NULL OR u.model = model_is)
      AND (provider_is IS NULL OR u.provider = provider_is)
      AND (status_is IS NULL OR u.status = status_is)
      AND (tag_is IS NULL OR u.tags ? tag_is)
      AND (limit_is IS NULL OR EXISTS (
          SELECT FROM jsonb_array_elements(u.charges) AS charge WHERE charge ->> 0 = limit_is))
$$;

-- Sums by hour of admission, fed by the statement that lands rows from what it really inserted.
CREATE TABLE rollups (
    application_id  uuid NOT NULL,
    dimension       text NOT NULL,                    -- see usage_dimensions
    value           text NOT NULL,
    hour            timestamptz NOT NULL,
    ok              bigint NOT NULL,                  -- calls by status, as `calls_of` counts them
    failed          bigint NOT NULL,
    blocked         bigint NOT NULL,
    unresolved      bigint NOT NULL,
    estimated       bigint NOT NULL,                  -- calls, of any status
    unpriced        bigint NOT NULL,
    input_tokens    numeric(36,0) NOT NULL,
    output_tokens   numeric(36,0) NOT NULL,
    input_pico      numeric(36,0) NOT NULL,
    output_pico     numeric(36,0) NOT NULL,
    cost_pico       numeric(36,0) NOT NULL,
    PRIMARY KEY (application_id, dimension, value, hour)
);

-- What each limit was charged in each of its epochs, fed the same way; emptied counters are rebuilt
-- from here. A window has an epoch of its own, and so has each part of a rolling one. `input` and `output` are kept for usd alone. A limit that is deleted leaves its totals.
CREATE TABLE limit_totals (
    application_id    uuid NOT NULL,
    limit_id          text NOT NULL,
    epoch             bigint NOT NULL,
    unit              text NOT NULL,
    charged           numeric(36,0) NOT NULL,
    input             numeric(36,0) NOT NULL,
    output            numeric(36,0) NOT NULL,
    ok                bigint NOT NULL,                -- calls by the state they left the limit in
    exceeded          bigint NOT NULL,
    overrun           bigint NOT NULL,
    blocked           bigint NOT NULL,
    blocked_external  bigint NOT NULL,
    failed            bigint NOT NULL,
    PRIMARY KEY (application_id, limit_id, epoch, unit)
);

-- Rows that no table takes, with the reason; the rest of their batch has landed. Kept as the bytes
-- they came in, because what is wrong with them may be a character that no text column takes.
CREATE TABLE dead_letters (
    digest          bytea PRIMARY KEY,                -- SHA-256 of the payload: redelivery adds nothing
    application_id  text NOT NULL,
    request_id      text NOT NULL,
    reason          text NOT NULL,
    payload         bytea NOT NULL,                   -- msgpack [row, charges]
    created_at      timestamptz NOT NULL DEFAULT now()
);

-- What was changed, by whom, as a trigger saw it: in the transaction of the change, so that neither is
-- there without the other. `actor` is what `xproxy.actor` says in that transaction; without it, it was
-- the service itself. Secrets are never in `before` and `after`, only that they changed.
CREATE TABLE audit (
    audit_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    application_id  uuid,                             -- null: it is of no single one
    actor           jsonb NOT NULL,                   -- {role, key_id, address, request_id}
    action          text NOT NULL,                    -- created, updated, deleted, repriced
    object          text NOT NULL,                    -- a noun: limit, key, ...
    object_id       text NOT NULL,
    before          jsonb,                            -- the whole row; null: there was none
    after           jsonb
);
-- An application's pages go by age, and so do those of one thing.
CREATE INDEX audit_by_application ON audit (application_id, audit_id);
CREATE INDEX audit_by_object ON audit (object, object_id, audit_id);

CREATE FUNCTION audit_actor() RETURNS jsonb LANGUAGE sql STABLE
    RETURN coalesce(nullif(current_setting('xproxy.actor', true), ''), '{"role": "service"}')::jsonb;

-- A trigger of a table that people change. Arguments: the noun; the column of its id; columns that are
-- secret, by commas; columns that are no change when they change.
CREATE FUNCTION audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    secret  text[] := string_to_array(TG_ARGV[2], ',');
    silent  text[] := string_to_array(TG_ARGV[3], ',');
    old_row jsonb;
    new_row jsonb;
    named   jsonb;
    hidden  text;
BEGIN
    IF TG_OP <> 'INSERT' THEN old_row := to_jsonb(OLD) - silent; END IF;
    IF TG_OP <> 'DELETE' THEN new_row := to_jsonb(NEW) - silent; END IF;
    IF old_row = new_row THEN RETURN NULL; END IF;
    named := coalesce(new_row, old_row);
    FOREACH hidden IN ARRAY secret LOOP
        IF new_row ? hidden THEN
            new_row := new_row || jsonb_build_object(hidden, CASE
                WHEN new_row -> hidden = 'null' THEN NULL
                WHEN old_row IS NULL OR old_row -> hidden = new_row -> hidden THEN 'secret'
                ELSE 'another secret' END);
        END IF;
        IF old_row -> hidden <> 'null' THEN
            old_row := old_row || jsonb_build_object(hidden, 'secret');
        END IF;
    END LOOP;
    INSERT INTO audit (application_id, actor, action, object, object_id, before, after)
    VALUES ((named ->> 'application_id')::uuid, audit_actor(),
            CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'updated' ELSE 'deleted' END,
            TG_ARGV[0], named ->> TG_ARGV[1], old_row, new_row);
    RETURN NULL;
END
$$;

CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON applications
    FOR EACH ROW EXECUTE FUNCTION audit_change('application', 'application_id', '', '');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON keys
    FOR EACH ROW EXECUTE FUNCTION audit_change(
        'key', 'key_id', 'digest,previous_digest', 'last_used_at,last_used_from');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON attachments
    FOR EACH ROW EXECUTE FUNCTION audit_change('attachment', 'limit_id', '', '');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON profiles
    FOR EACH ROW EXECUTE FUNCTION audit_change('profile', 'name', '', 'updated_at');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON limits
    FOR EACH ROW EXECUTE FUNCTION audit_change('limit', 'limit_id', '', 'updated_at');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON price_versions
    FOR EACH ROW EXECUTE FUNCTION audit_change('price_version', 'version', '', 'files');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON own_prices
    FOR EACH ROW EXECUTE FUNCTION audit_change('own_prices', 'revision', '', '');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON credentials
    FOR EACH ROW EXECUTE FUNCTION
    audit_change('credential', 'slug', 'sealed,row_key', 'row_key,wrapped_by,updated_at');
CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON resources
    FOR EACH ROW EXECUTE FUNCTION audit_change('resource', 'resource_id', '', '');

-- What is written stays as it was written.
CREATE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only ever appended to' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_stays();

-- Row-level security, forced: everyone but the owner sees the rows of one application, the one its
-- transaction names, and none if it names none.
ALTER TABLE keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE keys FORCE ROW LEVEL SECURITY;
ALTER TABLE limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE limits FORCE ROW LEVEL SECURITY;
ALTER TABLE limit_history ENABLE ROW LEVEL SECURITY;
ALTER TABLE limit_history FORCE ROW LEVEL SECURITY;
ALTER TABLE limit_totals ENABLE ROW LEVEL SECURITY;
ALTER TABLE limit_totals FORCE ROW LEVEL SECURITY;
ALTER TABLE rollups ENABLE ROW LEVEL SECURITY;
ALTER TABLE rollups FORCE ROW LEVEL SECURITY;
ALTER TABLE usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage FORCE ROW LEVEL SECURITY;

CREATE FUNCTION tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('xproxy.application', true), '')::uuid;

CREATE POLICY service ON keys TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY service ON limits TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY service ON limit_history TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY service ON limit_totals TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY service ON rollups TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY service ON usage TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON keys TO xproxy_tenant USING (application_id = tenant());
CREATE POLICY tenant ON limits TO xproxy_tenant USING (application_id = tenant());
CREATE POLICY tenant ON limit_history TO xproxy_tenant USING (application_id = tenant());
CREATE POLICY tenant ON limit_totals TO xproxy_tenant USING (application_id = tenant());
CREATE POLICY tenant ON rollups TO xproxy_tenant USING (application_id = tenant());
CREATE POLICY tenant ON usage TO xproxy_tenant USING (application_id = tenant());

-- Partitions are reached through `usage` alone.
GRANT SELECT ON keys, limits, limit_history, limit_totals, rollups, usage TO xproxy_tenant;

-- Limits that bind an application are seen by it; an admin attaches them. Who manages credentials attaches
-- a virtual key's own limits, and nothing else.
ALTER TABLE attachments ENABLE ROW LEVEL SECURITY;
ALTER TABLE attachments FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON attachments TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON attachments FOR SELECT TO xproxy_tenant USING (application_id = tenant());
CREATE POLICY virtual_key ON attachments FOR INSERT TO xproxy_tenant WITH CHECK (
    application_id = tenant() AND kind = 'credential' AND starts_with(limit_id, 'virtual_key:' || name || ':'));
GRANT SELECT, INSERT ON attachments TO xproxy_tenant;

ALTER TABLE profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE profiles FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON profiles TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON profiles TO xproxy_tenant USING (application_id = tenant());
GRANT SELECT ON profiles TO xproxy_tenant;

-- The audit log is read the same way.
ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON audit TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON audit TO xproxy_tenant USING (application_id = tenant());
GRANT SELECT ON audit TO xproxy_tenant;

-- What a key that is no admin's asks for is asked as the tenant role: whatever the statement says,
-- nothing but its own application is read or written. Its changes go on record all the same.
ALTER TABLE own_prices ENABLE ROW LEVEL SECURITY;
ALTER TABLE own_prices FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON own_prices TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON own_prices TO xproxy_tenant USING (application_id = tenant());
GRANT SELECT, DELETE ON own_prices TO xproxy_tenant;
GRANT INSERT, UPDATE, DELETE ON limits TO xproxy_tenant;
GRANT INSERT ON limit_history TO xproxy_tenant;
GRANT UPDATE (properties) ON usage TO xproxy_tenant;
REVOKE SELECT ON keys FROM xproxy_tenant;  -- its digest is nobody's to read
GRANT SELECT (
    key_id, application_id, role, name, last4, permissions, limit_ids, created_at, expires_at, blocked,
    user_id, team, customer, previous_ends_at, last_used_at, last_used_from, rate_limits, models, aliases,
    tags, terms, details
) ON keys TO xproxy_tenant;
DO $$
BEGIN
    EXECUTE format(
        'ALTER FUNCTION audit_change() SECURITY DEFINER SET search_path = %I, pg_temp', current_schema());
    EXECUTE format(
        'ALTER FUNCTION unbind_keys() SECURITY DEFINER SET search_path = %I, pg_temp', current_schema());
END
$$;

-- Tenants see what is known of their credentials and may set a secret, but read none.
ALTER TABLE credentials ENABLE ROW LEVEL SECURITY;
ALTER TABLE credentials FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON credentials TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON credentials TO xproxy_tenant USING (application_id = tenant());
GRANT INSERT, DELETE ON credentials TO xproxy_tenant;
GRANT SELECT (
    credential_id, application_id, slug, name, provider, origin, is_default, blocked, last4, secret_at,
    created_at, created_by, updated_at, expires_at, note, model_config, terms
) ON credentials TO xproxy_tenant;
GRANT UPDATE (
    name, origin, is_default, blocked, sealed, row_key, wrapped_by, last4, secret_at, updated_at, expires_at,
    note, model_config, terms
) ON credentials TO xproxy_tenant;

-- What an application prices itself it also takes away; what was reported stays. What an administrator has
-- priced for it, it does not change.
ALTER TABLE resources ENABLE ROW LEVEL SECURITY;
ALTER TABLE resources FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON resources TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON resources FOR SELECT TO xproxy_tenant USING (application_id = tenant());
CREATE POLICY tenant_adds ON resources FOR INSERT TO xproxy_tenant
    WITH CHECK (application_id = tenant() AND NOT proxy_allowed);
CREATE POLICY tenant_deletes ON resources FOR DELETE TO xproxy_tenant
    USING (application_id = tenant() AND NOT proxy_allowed);
GRANT SELECT, INSERT, DELETE ON resources TO xproxy_tenant;
ALTER TABLE ingested ENABLE ROW LEVEL SECURITY;
ALTER TABLE ingested FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON ingested TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON ingested TO xproxy_tenant USING (application_id = tenant());
GRANT SELECT, INSERT, UPDATE (request_id) ON ingested TO xproxy_tenant;

-- What was said in its calls a tenant keeps and reads, and changes nothing of.
ALTER TABLE bodies ENABLE ROW LEVEL SECURITY;
ALTER TABLE bodies FORCE ROW LEVEL SECURITY;
CREATE POLICY service ON bodies TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY tenant ON bodies TO xproxy_tenant USING (application_id = tenant());
GRANT SELECT, INSERT ON bodies TO xproxy_tenant;
