DROP FUNCTION catalog_note_change();
DROP FUNCTION catalog_change_is_audited();
DROP TABLE audit;
DROP FUNCTION audit_is_append_only();
DROP TABLE catalog_change;
DROP TABLE catalog_revision;
