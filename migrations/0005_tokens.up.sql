-- API tokens, and answers kept under idempotency keys.

CREATE TABLE tokens (
    id         uuid        CONSTRAINT tokens_pkey PRIMARY KEY,
    -- SHA-256 of the whole secret.
    hash       bytea       NOT NULL CONSTRAINT tokens_hash_key UNIQUE,
    app_id     uuid        CONSTRAINT tokens_app_fkey REFERENCES applications (id) ON DELETE CASCADE,
    user_id    uuid        CONSTRAINT tokens_user_fkey REFERENCES users (id) ON DELETE CASCADE,
    name       text        NOT NULL,
    prefix     text        NOT NULL,
    scopes     text[]      NOT NULL CONSTRAINT tokens_scopes_some CHECK (cardinality(scopes) > 0),
    topics     text[]      NOT NULL,
    created_by text        NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    -- The token that replaced this one.
    rotated_to uuid,
    revision   bigint      NOT NULL,
    CONSTRAINT tokens_one_holder CHECK ((app_id IS NULL) <> (user_id IS NULL)),
    CONSTRAINT tokens_hash_length CHECK (octet_length(hash) = 32)
);
CREATE INDEX tokens_app ON tokens (app_id);
CREATE INDEX tokens_user ON tokens (user_id);
CREATE TRIGGER tokens_noted AFTER INSERT OR UPDATE OR DELETE ON tokens
    FOR EACH ROW EXECUTE FUNCTION catalog_note_change('token');
CREATE CONSTRAINT TRIGGER tokens_audited AFTER INSERT OR UPDATE OR DELETE ON tokens
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_change_is_audited();

-- Apart from the token, so that a use is not a change of the catalog. Written in batches.
CREATE TABLE token_uses (
    token_id uuid        CONSTRAINT token_uses_pkey PRIMARY KEY REFERENCES tokens (id) ON DELETE CASCADE,
    at       timestamptz NOT NULL,
    address  text
);

CREATE TABLE idempotency_keys (
    -- Digest of principal, method, path and key.
    scope      bytea       CONSTRAINT idempotency_keys_pkey PRIMARY KEY,
    -- Digest of the body.
    digest     bytea       NOT NULL,
    claimed_at timestamptz NOT NULL,
    -- Null while the first request runs.
    status     integer,
    headers    jsonb,
    body       bytea,
    secret_of  text
);
CREATE INDEX idempotency_keys_time ON idempotency_keys (claimed_at);
