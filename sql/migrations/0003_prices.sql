-- Prices are loaded while the service runs, and negotiated: rows say which list they were priced by.
ALTER TABLE usage ADD COLUMN price_version text;

CREATE TABLE price_versions (
    version         integer PRIMARY KEY CHECK (version >= 1),
    digest          text NOT NULL,
    packaged        text NOT NULL,
    files           jsonb NOT NULL,
    note            text NOT NULL DEFAULT '',
    loaded_at       timestamptz NOT NULL,
    loaded_by       text NOT NULL
);

CREATE TABLE own_prices (
    revision        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application_id  uuid NOT NULL REFERENCES applications ON DELETE CASCADE,
    kind            text NOT NULL CHECK (kind IN ('application', 'credential', 'limit')),
    name            text NOT NULL DEFAULT '',
    rates           jsonb NOT NULL,
    set_at          timestamptz NOT NULL,
    set_by          text NOT NULL
);
