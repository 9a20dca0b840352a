-- Teams, the people in them, and the applications they own.

CREATE TABLE teams (
    id          uuid        CONSTRAINT teams_pkey PRIMARY KEY,
    name        text        NOT NULL CONSTRAINT teams_name_key UNIQUE,
    description text        NOT NULL,
    created_at  timestamptz NOT NULL,
    revision    bigint      NOT NULL
);
CREATE TRIGGER teams_noted AFTER INSERT OR UPDATE OR DELETE ON teams
    FOR EACH ROW EXECUTE FUNCTION catalog_note_change('team');
CREATE CONSTRAINT TRIGGER teams_audited AFTER INSERT OR UPDATE OR DELETE ON teams
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_change_is_audited();

CREATE TABLE team_members (
    id       uuid        CONSTRAINT team_members_pkey PRIMARY KEY,
    team_id  uuid        NOT NULL CONSTRAINT team_members_team_fkey REFERENCES teams (id) ON DELETE CASCADE,
    user_id  uuid        NOT NULL CONSTRAINT team_members_user_fkey REFERENCES users (id) ON DELETE CASCADE,
    role     text        NOT NULL CONSTRAINT team_members_role_known CHECK (role IN ('member', 'maintainer')),
    since    timestamptz NOT NULL,
    revision bigint      NOT NULL,
    CONSTRAINT team_members_once UNIQUE (team_id, user_id)
);
CREATE INDEX team_members_user ON team_members (user_id);
CREATE TRIGGER team_members_noted AFTER INSERT OR UPDATE OR DELETE ON team_members
    FOR EACH ROW EXECUTE FUNCTION catalog_note_change('member');
CREATE CONSTRAINT TRIGGER team_members_audited AFTER INSERT OR UPDATE OR DELETE ON team_members
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_change_is_audited();

CREATE TABLE join_requests (
    team_id uuid        NOT NULL CONSTRAINT join_requests_team_fkey REFERENCES teams (id) ON DELETE CASCADE,
    user_id uuid        NOT NULL CONSTRAINT join_requests_user_fkey REFERENCES users (id) ON DELETE CASCADE,
    message text        NOT NULL,
    since   timestamptz NOT NULL,
    CONSTRAINT join_requests_pkey PRIMARY KEY (team_id, user_id)
);
CREATE INDEX join_requests_user ON join_requests (user_id);
CREATE CONSTRAINT TRIGGER join_requests_audited AFTER INSERT OR UPDATE OR DELETE ON join_requests
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_change_is_audited();

CREATE TABLE invitations (
    id         uuid        CONSTRAINT invitations_pkey PRIMARY KEY,
    -- SHA-256 of the link's secret.
    hash       bytea       NOT NULL CONSTRAINT invitations_hash_key UNIQUE,
    team_id    uuid        NOT NULL CONSTRAINT invitations_team_fkey REFERENCES teams (id) ON DELETE CASCADE,
    email      text        NOT NULL,
    role       text        NOT NULL CONSTRAINT invitations_role_known CHECK (role IN ('member', 'maintainer')),
    invited_by text        NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT invitations_once UNIQUE (team_id, email),
    CONSTRAINT invitations_hash_length CHECK (octet_length(hash) = 32)
);
CREATE CONSTRAINT TRIGGER invitations_audited AFTER INSERT OR UPDATE OR DELETE ON invitations
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_change_is_audited();

CREATE TABLE applications (
    id          uuid        CONSTRAINT applications_pkey PRIMARY KEY,
    name        text        NOT NULL CONSTRAINT applications_name_key UNIQUE,
    team_id     uuid        NOT NULL CONSTRAINT applications_team_fkey REFERENCES teams (id),
    description text        NOT NULL,
    -- Addresses of people, with or without an account.
    owners      text[]      NOT NULL,
    contacts    jsonb       NOT NULL,
    repository  text,
    runbook     text,
    labels      jsonb       NOT NULL,
    state       text        NOT NULL CONSTRAINT applications_state_known CHECK (state IN ('active', 'suspended')),
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    revision    bigint      NOT NULL
);
CREATE INDEX applications_team ON applications (team_id);
CREATE TRIGGER applications_noted AFTER INSERT OR UPDATE OR DELETE ON applications
    FOR EACH ROW EXECUTE FUNCTION catalog_note_change('app');
CREATE CONSTRAINT TRIGGER applications_audited AFTER INSERT OR UPDATE OR DELETE ON applications
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_change_is_audited();
