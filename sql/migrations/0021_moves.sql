-- Corrections that move a call from some sums to others; `schema.sql` has the reasons.
CREATE FUNCTION calls_of(entry text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN entry = 'call' OR entry LIKE '%:now' THEN 1 WHEN entry LIKE '%:was' THEN -1 ELSE 0 END;
