-- +goose Up

-- Times are microseconds since 1970 UTC, 0 for none. Identifiers sort by
-- bytes (COLLATE "C"), so that a page is the same on every engine and locale.

-- Rotation writes the four refresh_ columns only, and none of them is indexed:
-- with room left in each page PostgreSQL rewrites the row in place (HOT).
CREATE TABLE grants (
    id                      uuid    PRIMARY KEY,
    lineage                 text    NOT NULL, -- [["grant id","client id"],…], oldest first; empty for a root
    client_id               text    COLLATE "C" NOT NULL,
    subject_issuer          text    NOT NULL,
    subject_id              text    COLLATE "C" NOT NULL,
    subject_kind            text    NOT NULL,
    scopes                  text    NOT NULL,
    resources               text    NOT NULL,
    confirmation            text    NOT NULL,
    evidence_kind           text    NOT NULL,
    evidence_key            text    COLLATE "C" NOT NULL,
    session_id              uuid,
    auth_time               bigint  NOT NULL,
    amr                     text    NOT NULL,
    nonce                   bytea   NOT NULL,
    claims                  text    NOT NULL,
    code_hash               bytea,
    code_challenge          text    NOT NULL,
    code_redirect_uri       text    NOT NULL,
    code_expires_at         bigint  NOT NULL,
    redirect_digest         bytea,
    refresh_generation      bigint  NOT NULL,
    refresh_hash            bytea,
    refresh_rotated_at      bigint  NOT NULL,
    refresh_idle_expires_at bigint  NOT NULL,
    state                   text    NOT NULL CHECK (state IN ('pending', 'active', 'ended')),
    created_at              bigint  NOT NULL,
    expires_at              bigint  NOT NULL,
    ended_at                bigint  NOT NULL,
    end_reason              text    NOT NULL,
    sweep_at                bigint  NOT NULL -- from when the row may go
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX grants_evidence ON grants (evidence_kind, evidence_key) WHERE evidence_kind <> '';
CREATE INDEX grants_session  ON grants (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX grants_client   ON grants (client_id, id);
CREATE INDEX grants_subject  ON grants (subject_id, id);
CREATE INDEX grants_sweep    ON grants (sweep_at);
CREATE UNIQUE INDEX grants_standing ON grants (evidence_kind, evidence_key, client_id, resources) WHERE state = 'active' AND evidence_kind IN ('pod', 'job');
CREATE UNIQUE INDEX grants_pending ON grants (session_id, client_id) WHERE state = 'pending' AND session_id IS NOT NULL;

CREATE TABLE sessions (
    id             uuid   PRIMARY KEY,
    hash           bytea  NOT NULL UNIQUE,
    subject_issuer text   NOT NULL,
    subject_id     text   NOT NULL,
    subject_kind   text   NOT NULL,
    auth_time      bigint NOT NULL,
    amr            text   NOT NULL,
    expires_at     bigint NOT NULL
);
CREATE INDEX sessions_expires ON sessions (expires_at);

CREATE TABLE tickets (
    kind       text   NOT NULL,
    hash       bytea  NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (kind, hash)
);
CREATE INDEX tickets_expires ON tickets (expires_at);

CREATE TABLE signing_keys (
    id          text   COLLATE "C" PRIMARY KEY,
    algorithm   text   NOT NULL,
    public_jwk  bytea  NOT NULL,
    sealed      bytea  NOT NULL,
    state       text   NOT NULL CHECK (state IN ('next', 'current', 'retired')),
    created_at  bigint NOT NULL,
    promoted_at bigint NOT NULL,
    retired_at  bigint NOT NULL
);
CREATE UNIQUE INDEX signing_keys_one ON signing_keys (algorithm, state) WHERE state <> 'retired';

CREATE SEQUENCE revocation_seq;
CREATE TABLE revocations (
    kind       text   NOT NULL,
    key        text   COLLATE "C" NOT NULL,
    seq        bigint NOT NULL UNIQUE,
    not_before bigint NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX revocations_expires ON revocations (expires_at);

-- A trigger, so that no statement that writes a revocation can forget to tell
-- the other nodes.
-- +goose StatementBegin
CREATE FUNCTION revocations_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('signalbox_revocations', '');
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER revocations_changed AFTER INSERT OR UPDATE ON revocations
    FOR EACH STATEMENT EXECUTE FUNCTION revocations_changed();

-- What the admin API keeps, whatever its kind. A row that is not live keeps an
-- id from being given a second time, and holds nothing else.
CREATE TABLE objects (
    namespace  text   COLLATE "C" NOT NULL,
    id         text   COLLATE "C" NOT NULL,
    kind       text   COLLATE "C" NOT NULL,
    state      text   COLLATE "C" NOT NULL CHECK (state IN ('live', 'deleted', 'declared')),
    name       text   COLLATE "C",
    body       text   NOT NULL,
    revision   bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (namespace, id)
);
CREATE UNIQUE INDEX objects_name ON objects (kind, name) WHERE name IS NOT NULL;
CREATE INDEX objects_kind ON objects (kind, state, id);

-- What is remembered of each node's journal. Rows are never removed.
CREATE TABLE journals (
    node       text   COLLATE "C" PRIMARY KEY,
    place      text   NOT NULL,
    seq        bigint NOT NULL,
    head       bytea  NOT NULL,
    written_at bigint NOT NULL,
    retired_at bigint NOT NULL DEFAULT 0,
    lost_first bigint NOT NULL DEFAULT 0,
    lost_last  bigint NOT NULL DEFAULT 0,
    lost_at    bigint NOT NULL DEFAULT 0,
    lost_by    text   NOT NULL DEFAULT '',
    lost_why   text   NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX journals_place ON journals (place) WHERE retired_at = 0 AND lost_at = 0;

-- What configuration files declared, one row for each that came into force. The
-- newest is in force and the only one with digests; the others are known by
-- their content, so that an old file is not taken for a new one.
CREATE TABLE declarations (
    revision    bigint  PRIMARY KEY,
    content     bytea   NOT NULL,
    digests     text    NOT NULL,
    node        text    NOT NULL,
    declared_at bigint  NOT NULL
);

-- Which node does a task that one does for all. Expiry is by the server's clock.
CREATE TABLE leases (
    name    text   COLLATE "C" PRIMARY KEY,
    holder  text   COLLATE "C" NOT NULL,
    fence   bigint NOT NULL,
    ready   bigint NOT NULL,
    expires bigint NOT NULL
) WITH (fillfactor = 50);
