-- Credentials and limits have negotiated rates too: rows say which credential served them, and what
-- limits with own rates were charged in place of the cost. A limit's rates end with it.
ALTER TABLE usage
    ADD COLUMN credential text,
    ADD COLUMN limit_costs jsonb;

ALTER TABLE own_prices
    ADD COLUMN limit_id text GENERATED ALWAYS AS (CASE WHEN kind = 'limit' THEN name END) STORED,
    ADD FOREIGN KEY (application_id, limit_id) REFERENCES limits ON DELETE CASCADE;
