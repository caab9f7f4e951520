-- What becomes of a limit's calls while nobody can tell what it has counted; null: as its mode has it.
ALTER TABLE limits ADD COLUMN on_store_down text CHECK (on_store_down IN ('refuse', 'allow'));
