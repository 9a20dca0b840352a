-- Topics and who may use them.

CREATE TABLE topics (
    -- One incarnation: deleting and creating a topic again gives another identifier.
    id              uuid        CONSTRAINT topics_pkey PRIMARY KEY,
    name            text        NOT NULL CONSTRAINT topics_name_key UNIQUE,
    app_id          uuid        NOT NULL CONSTRAINT topics_app_fkey REFERENCES applications (id),
    description     text        NOT NULL,
    classification  text        NOT NULL CONSTRAINT topics_classification_known
                                CHECK (classification IN ('public', 'internal', 'confidential', 'restricted')),
    visibility      text        NOT NULL CONSTRAINT topics_visibility_known CHECK (visibility IN ('company', 'team')),
    partitions      integer     NOT NULL CONSTRAINT topics_partitions_range CHECK (partitions BETWEEN 1 AND 1024),
    retention_ms    bigint      CONSTRAINT topics_retention_ms_positive CHECK (retention_ms > 0),
    retention_bytes bigint      CONSTRAINT topics_retention_bytes_positive CHECK (retention_bytes > 0),
    cleanup         text        NOT NULL CONSTRAINT topics_cleanup_known CHECK (cleanup IN ('delete', 'compact')),
    labels          jsonb       NOT NULL,
    state           text        NOT NULL CONSTRAINT topics_state_known CHECK (state IN ('active', 'deleted')),
    deleted_at      timestamptz,
    purge_after     timestamptz,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    revision        bigint      NOT NULL,
    CONSTRAINT topics_deleted_has_dates
        CHECK ((state = 'deleted') = (deleted_at IS NOT NULL) AND (state = 'deleted') = (purge_after IS NOT NULL))
);
CREATE INDEX topics_app ON topics (app_id);
CREATE INDEX topics_purge ON topics (purge_after) WHERE purge_after IS NOT NULL;
CREATE TRIGGER topics_noted AFTER INSERT OR UPDATE OR DELETE ON topics
    FOR EACH ROW EXECUTE FUNCTION catalog_note_change('topic');
CREATE CONSTRAINT TRIGGER topics_audited AFTER INSERT OR UPDATE OR DELETE ON topics
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_change_is_audited();

-- Incarnations that are gone for good: the engine drops records of these and of no others.
CREATE TABLE purged_topics (
    id        uuid        CONSTRAINT purged_topics_pkey PRIMARY KEY,
    name      text        NOT NULL,
    purged_at timestamptz NOT NULL
);
CREATE INDEX purged_topics_time ON purged_topics (purged_at);
CREATE CONSTRAINT TRIGGER purged_topics_audited AFTER INSERT OR UPDATE OR DELETE ON purged_topics
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_change_is_audited();

CREATE TABLE access_grants (
    id         uuid        CONSTRAINT access_grants_pkey PRIMARY KEY,
    app_id     uuid        NOT NULL CONSTRAINT access_grants_app_fkey REFERENCES applications (id) ON DELETE CASCADE,
    topic_id   uuid        CONSTRAINT access_grants_topic_fkey REFERENCES topics (id) ON DELETE CASCADE,
    owner_id   uuid        CONSTRAINT access_grants_owner_fkey REFERENCES applications (id) ON DELETE CASCADE,
    prefix     text,
    operations text[]      NOT NULL CONSTRAINT access_grants_operations_known
                           CHECK (cardinality(operations) > 0 AND operations <@ ARRAY['produce', 'consume', 'manage']),
    expires_at timestamptz,
    granted_by text        NOT NULL,
    since      timestamptz NOT NULL,
    revision   bigint      NOT NULL,
    CONSTRAINT access_grants_topic_once UNIQUE (app_id, topic_id),
    CONSTRAINT access_grants_prefix_once UNIQUE (app_id, owner_id, prefix),
    CONSTRAINT access_grants_topic_or_prefix
        CHECK ((topic_id IS NULL) <> (prefix IS NULL) AND (owner_id IS NULL) = (prefix IS NULL))
);
CREATE INDEX access_grants_topic ON access_grants (topic_id);
CREATE INDEX access_grants_owner ON access_grants (owner_id);
CREATE TRIGGER access_grants_noted AFTER INSERT OR UPDATE OR DELETE ON access_grants
    FOR EACH ROW EXECUTE FUNCTION catalog_note_change('grant');
CREATE CONSTRAINT TRIGGER access_grants_audited AFTER INSERT OR UPDATE OR DELETE ON access_grants
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_change_is_audited();
