-- +goose Up

-- Times are microseconds since 1970 UTC, 0 for none.

-- Rotation writes the four refresh_ columns only, and none of them is indexed.
CREATE TABLE grants (
    id                      BLOB    NOT NULL UNIQUE,
    lineage                 TEXT    NOT NULL, -- [["grant id","client id"],…], oldest first; empty for a root
    client_id               TEXT    NOT NULL,
    subject_issuer          TEXT    NOT NULL,
    subject_id              TEXT    NOT NULL,
    subject_kind            TEXT    NOT NULL,
    scopes                  TEXT    NOT NULL,
    resources               TEXT    NOT NULL,
    confirmation            TEXT    NOT NULL,
    evidence_kind           TEXT    NOT NULL,
    evidence_key            TEXT    NOT NULL,
    session_id              BLOB,
    auth_time               INTEGER NOT NULL,
    amr                     TEXT    NOT NULL,
    nonce                   BLOB    NOT NULL,
    claims                  TEXT    NOT NULL,
    code_hash               BLOB,
    code_challenge          TEXT    NOT NULL,
    code_redirect_uri       TEXT    NOT NULL,
    code_expires_at         INTEGER NOT NULL,
    redirect_digest         BLOB,
    refresh_generation      INTEGER NOT NULL,
    refresh_hash            BLOB,
    refresh_rotated_at      INTEGER NOT NULL,
    refresh_idle_expires_at INTEGER NOT NULL,
    state                   TEXT    NOT NULL CHECK (state IN ('pending', 'active', 'ended')),
    created_at              INTEGER NOT NULL,
    expires_at              INTEGER NOT NULL,
    ended_at                INTEGER NOT NULL,
    end_reason              TEXT    NOT NULL,
    sweep_at                INTEGER NOT NULL -- from when the row may go
) STRICT;
CREATE INDEX grants_evidence ON grants (evidence_kind, evidence_key) WHERE evidence_kind <> '';
CREATE INDEX grants_session  ON grants (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX grants_client   ON grants (client_id, id);
CREATE INDEX grants_subject  ON grants (subject_id, id);
CREATE INDEX grants_sweep    ON grants (sweep_at);
CREATE UNIQUE INDEX grants_standing ON grants (evidence_kind, evidence_key, client_id, resources) WHERE state = 'active' AND evidence_kind IN ('pod', 'job');
CREATE UNIQUE INDEX grants_pending ON grants (session_id, client_id) WHERE state = 'pending' AND session_id IS NOT NULL;

CREATE TABLE sessions (
    id             BLOB    NOT NULL PRIMARY KEY,
    hash           BLOB    NOT NULL UNIQUE,
    subject_issuer TEXT    NOT NULL,
    subject_id     TEXT    NOT NULL,
    subject_kind   TEXT    NOT NULL,
    auth_time      INTEGER NOT NULL,
    amr            TEXT    NOT NULL,
    expires_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_expires ON sessions (expires_at);

CREATE TABLE tickets (
    kind       TEXT    NOT NULL,
    hash       BLOB    NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (kind, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX tickets_expires ON tickets (expires_at);

CREATE TABLE signing_keys (
    id          TEXT    NOT NULL PRIMARY KEY,
    algorithm   TEXT    NOT NULL,
    public_jwk  BLOB    NOT NULL,
    sealed      BLOB    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('next', 'current', 'retired')),
    created_at  INTEGER NOT NULL,
    promoted_at INTEGER NOT NULL,
    retired_at  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX signing_keys_one ON signing_keys (algorithm, state) WHERE state <> 'retired';

CREATE TABLE revocations (
    kind       TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    seq        INTEGER NOT NULL UNIQUE,
    not_before INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT;
CREATE INDEX revocations_expires ON revocations (expires_at);

-- What the admin API keeps, whatever its kind. A row that is not live keeps an
-- id from being given a second time, and holds nothing else.
CREATE TABLE objects (
    namespace  TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('live', 'deleted', 'declared')),
    name       TEXT,
    body       TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, id)
) STRICT;
CREATE UNIQUE INDEX objects_name ON objects (kind, name) WHERE name IS NOT NULL;
CREATE INDEX objects_kind ON objects (kind, state, id);

-- What is remembered of each node's journal. Rows are never removed.
CREATE TABLE journals (
    node       TEXT    NOT NULL PRIMARY KEY,
    place      TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    head       BLOB    NOT NULL,
    written_at INTEGER NOT NULL,
    retired_at INTEGER NOT NULL DEFAULT 0,
    lost_first INTEGER NOT NULL DEFAULT 0,
    lost_last  INTEGER NOT NULL DEFAULT 0,
    lost_at    INTEGER NOT NULL DEFAULT 0,
    lost_by    TEXT    NOT NULL DEFAULT '',
    lost_why   TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX journals_place ON journals (place) WHERE retired_at = 0 AND lost_at = 0;

-- What configuration files declared, one row for each that came into force. The
-- newest is in force and the only one with digests; the others are known by
-- their content, so that an old file is not taken for a new one.
CREATE TABLE declarations (
    revision    INTEGER PRIMARY KEY,
    content     BLOB    NOT NULL,
    digests     TEXT    NOT NULL,
    node        TEXT    NOT NULL,
    declared_at INTEGER NOT NULL
) STRICT;

-- Which process does a task that one does for all.
CREATE TABLE leases (
    name    TEXT    NOT NULL PRIMARY KEY,
    holder  TEXT    NOT NULL,
    fence   INTEGER NOT NULL,
    ready   INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
