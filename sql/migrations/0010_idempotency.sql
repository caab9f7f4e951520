-- Applications whose calls with an Idempotency-Key are made once, however often they are repeated.
ALTER TABLE applications ADD COLUMN idempotency boolean NOT NULL DEFAULT false;
