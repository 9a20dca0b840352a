-- What orders, announces and records every change: the revision, the list of changed rows, the audit.

-- One row. Every transaction that changes the catalog takes it FOR UPDATE (by incrementing it), so revisions are given in
-- the order of commits and nobody sees revision n before everything of n - 1.
CREATE TABLE catalog_revision (
    one_row boolean PRIMARY KEY DEFAULT true CONSTRAINT catalog_revision_has_one_row CHECK (one_row),
    value   bigint  NOT NULL
);
INSERT INTO catalog_revision (value) VALUES (0);

-- Which rows a revision touched: what a process reads to bring its view up to date. Kept for a day.
CREATE TABLE catalog_change (
    revision bigint      NOT NULL,
    kind     text        NOT NULL,
    id       uuid        NOT NULL,
    at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT catalog_change_pkey PRIMARY KEY (revision, kind, id)
);

CREATE TABLE audit (
    id          bigint      GENERATED ALWAYS AS IDENTITY CONSTRAINT audit_pkey PRIMARY KEY,
    revision    bigint      NOT NULL,
    transaction xid8        NOT NULL DEFAULT pg_current_xact_id(),
    at          timestamptz NOT NULL,
    actor       text        NOT NULL,
    actor_user  uuid,
    actor_app   uuid,
    via_token   uuid,
    action      text        NOT NULL,
    resource    text        NOT NULL,
    -- The team and the application that owned the resource at the time: who may read the line.
    team_id     uuid,
    app_id      uuid,
    app         text,
    before      jsonb,
    after       jsonb,
    request_id  text,
    address     text
);
CREATE INDEX audit_revision ON audit (revision);
CREATE INDEX audit_resource ON audit (resource, id DESC);
CREATE INDEX audit_actor ON audit (actor, id DESC);
CREATE INDEX audit_team ON audit (team_id, id DESC);
CREATE INDEX audit_app ON audit (app, id DESC);
CREATE INDEX audit_actor_user ON audit (actor_user, id DESC);

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit can only be added to' USING ERRCODE = 'check_violation', CONSTRAINT = 'audit_is_append_only';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

-- Invariant I11: at commit, a transaction that changed a catalog table has written an audit row under its own revision.
CREATE FUNCTION catalog_change_is_audited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM audit
        WHERE revision = (SELECT value FROM catalog_revision) AND transaction = pg_current_xact_id()
    ) THEN
        RAISE EXCEPTION 'a change of % without an audit row', TG_TABLE_NAME
            USING ERRCODE = 'check_violation', CONSTRAINT = 'catalog_change_is_audited';
    END IF;
    RETURN NULL;
END $$;

-- Argument: the kind of row.
CREATE FUNCTION catalog_note_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    touched jsonb := CASE WHEN TG_OP = 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
BEGIN
    INSERT INTO catalog_change (revision, kind, id)
    SELECT value, TG_ARGV[0], (touched ->> 'id')::uuid FROM catalog_revision
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
