-- +goose Up

-- What holds for the whole database. min_reader is the least version of the
-- schema that a program must know to use it.
CREATE TABLE scopegate_meta (
	key   TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO scopegate_meta (key, value) VALUES ('min_reader', '1');

-- Times are microseconds since 1970, lists are JSON arrays.
CREATE TABLE scopegate_gateways (
	gateway  TEXT PRIMARY KEY,
	revision INTEGER NOT NULL,
	restored INTEGER -- when the database last came from a backup
) STRICT, WITHOUT ROWID;

CREATE TABLE scopegate_credentials (
	gateway        TEXT NOT NULL,
	id             TEXT NOT NULL,
	team           TEXT NOT NULL,
	name           TEXT NOT NULL,
	state          TEXT NOT NULL,
	note           TEXT NOT NULL,
	static         INTEGER NOT NULL,
	scopes         TEXT, -- NULL is all
	allowed_ips    TEXT, -- likewise
	not_before     INTEGER,
	expires        INTEGER,
	created        INTEGER NOT NULL,
	created_by     TEXT NOT NULL,
	changed        INTEGER NOT NULL,
	revision       INTEGER NOT NULL,
	used           INTEGER,
	used_address   TEXT NOT NULL DEFAULT '',
	used_operation TEXT NOT NULL DEFAULT '',
	PRIMARY KEY (gateway, id)
) STRICT, WITHOUT ROWID;

-- The feed of changes.
CREATE UNIQUE INDEX scopegate_credentials_revision
	ON scopegate_credentials (gateway, revision);

-- Pages of one team; the primary key, and so the id, follows by itself.
CREATE INDEX scopegate_credentials_team
	ON scopegate_credentials (gateway, team);

CREATE UNIQUE INDEX scopegate_credentials_name
	ON scopegate_credentials (gateway, team, name)
	WHERE state <> 'revoked' AND static = 0;

-- How many places of a team are taken. Those that never expire come last, so
-- that the expired ones, of which there may be many, are left out at once.
CREATE INDEX scopegate_credentials_places
	ON scopegate_credentials (gateway, team, coalesce(expires, 9223372036854775807))
	WHERE state <> 'revoked' AND static = 0;

CREATE TABLE scopegate_generations (
	gateway     TEXT NOT NULL,
	id          TEXT NOT NULL,
	number      INTEGER NOT NULL,
	hash        BLOB NOT NULL CHECK (length(hash) = 32),
	created     INTEGER NOT NULL,
	ends        INTEGER,
	ends_on_use INTEGER NOT NULL,
	PRIMARY KEY (gateway, id, number),
	FOREIGN KEY (gateway, id) REFERENCES scopegate_credentials (gateway, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE scopegate_replicas (
	gateway  TEXT NOT NULL,
	id       TEXT NOT NULL,
	host     TEXT NOT NULL,
	version  TEXT NOT NULL,
	started  INTEGER NOT NULL,
	revision INTEGER NOT NULL,
	silence  INTEGER NOT NULL, -- microseconds
	beat     INTEGER NOT NULL,
	PRIMARY KEY (gateway, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE scopegate_leases (
	gateway TEXT NOT NULL,
	name    TEXT NOT NULL,
	holder  TEXT NOT NULL,
	until   INTEGER NOT NULL,
	PRIMARY KEY (gateway, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE scopegate_counts (
	gateway TEXT NOT NULL,
	team    TEXT NOT NULL,
	period  TEXT NOT NULL,
	spent   INTEGER NOT NULL,
	PRIMARY KEY (gateway, team, period)
) STRICT, WITHOUT ROWID;
