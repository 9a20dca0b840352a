-- Accounts, their sessions, and the link of the first run.

CREATE TABLE users (
    id            uuid        CONSTRAINT users_pkey PRIMARY KEY,
    email         text        NOT NULL CONSTRAINT users_email_key UNIQUE,
    name          text        NOT NULL CONSTRAINT users_name_length CHECK (length(name) BETWEEN 1 AND 200),
    admin         boolean     NOT NULL DEFAULT false,
    disabled      boolean     NOT NULL DEFAULT false,
    -- argon2id in PHC form; null for accounts that sign in elsewhere.
    password_hash text,
    created_at    timestamptz NOT NULL,
    revision      bigint      NOT NULL,
    CONSTRAINT users_email_lower CHECK (email = lower(email) AND length(email) <= 254)
);
CREATE TRIGGER users_noted AFTER INSERT OR UPDATE OR DELETE ON users
    FOR EACH ROW EXECUTE FUNCTION catalog_note_change('user');
CREATE CONSTRAINT TRIGGER users_audited AFTER INSERT OR UPDATE OR DELETE ON users
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_change_is_audited();

-- Apart from the account, so that a sign-in is not a change of the catalog.
CREATE TABLE user_logins (
    user_id uuid        CONSTRAINT user_logins_pkey PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    at      timestamptz NOT NULL
);

CREATE TABLE sessions (
    id           uuid        CONSTRAINT sessions_pkey PRIMARY KEY,
    -- SHA-256 of the cookie's secret.
    hash         bytea       NOT NULL CONSTRAINT sessions_hash_key UNIQUE,
    user_id      uuid        NOT NULL CONSTRAINT sessions_user_fkey REFERENCES users (id) ON DELETE CASCADE,
    created_at   timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    -- The absolute end; the idle end follows from last_seen_at.
    expires_at   timestamptz NOT NULL,
    address      text,
    user_agent   text,
    CONSTRAINT sessions_hash_length CHECK (octet_length(hash) = 32)
);
CREATE INDEX sessions_user ON sessions (user_id, last_seen_at DESC);
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE setup_links (
    hash       bytea       CONSTRAINT setup_links_pkey PRIMARY KEY,
    created_at timestamptz NOT NULL,
    CONSTRAINT setup_links_hash_length CHECK (octet_length(hash) = 32)
);
