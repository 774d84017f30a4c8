-- +goose Up

-- What holds for the whole database. min_reader is the least version of the
-- schema that a program must know to use it.
CREATE TABLE scopegate_meta (
	key   text PRIMARY KEY,
	value text NOT NULL
);

INSERT INTO scopegate_meta (key, value) VALUES ('min_reader', '1');

-- The revision is a row and no sequence: the lock on the row is what makes
-- revisions commit in their order.
CREATE TABLE scopegate_gateways (
	gateway  text COLLATE "C" PRIMARY KEY,
	revision bigint NOT NULL,
	restored timestamptz -- when the database last came from a backup
);

-- What is a key or is sorted by has the collation C, so that pages have the
-- same order in any database, and an upgrade of a system's collations cannot
-- break an index.
CREATE TABLE scopegate_credentials (
	gateway        text COLLATE "C" NOT NULL,
	id             text COLLATE "C" NOT NULL,
	team           text COLLATE "C" NOT NULL,
	name           text COLLATE "C" NOT NULL,
	state          text COLLATE "C" NOT NULL,
	note           text NOT NULL,
	static         boolean NOT NULL,
	scopes         text[], -- NULL is all
	allowed_ips    text[], -- likewise
	not_before     timestamptz,
	expires        timestamptz,
	created        timestamptz NOT NULL,
	created_by     text NOT NULL,
	changed        timestamptz NOT NULL,
	revision       bigint NOT NULL,
	used           timestamptz,
	used_address   text NOT NULL DEFAULT '',
	used_operation text NOT NULL DEFAULT '',
	PRIMARY KEY (gateway, id)
);

-- The feed of changes.
CREATE UNIQUE INDEX scopegate_credentials_revision
	ON scopegate_credentials (gateway, revision);

-- Pages of one team.
CREATE INDEX scopegate_credentials_team
	ON scopegate_credentials (gateway, team, id);

CREATE UNIQUE INDEX scopegate_credentials_name
	ON scopegate_credentials (gateway, team, name)
	WHERE state <> 'revoked' AND NOT static;

CREATE TABLE scopegate_generations (
	gateway     text COLLATE "C" NOT NULL,
	id          text COLLATE "C" NOT NULL,
	number      integer NOT NULL,
	hash        bytea NOT NULL CHECK (length(hash) = 32),
	created     timestamptz NOT NULL,
	ends        timestamptz,
	ends_on_use boolean NOT NULL,
	PRIMARY KEY (gateway, id, number),
	FOREIGN KEY (gateway, id) REFERENCES scopegate_credentials (gateway, id)
);

CREATE TABLE scopegate_replicas (
	gateway  text COLLATE "C" NOT NULL,
	id       text COLLATE "C" NOT NULL,
	host     text NOT NULL,
	version  text NOT NULL,
	started  timestamptz NOT NULL,
	revision bigint NOT NULL,
	silence  interval NOT NULL,
	beat     timestamptz NOT NULL,
	PRIMARY KEY (gateway, id)
);

CREATE TABLE scopegate_leases (
	gateway text COLLATE "C" NOT NULL,
	name    text COLLATE "C" NOT NULL,
	holder  text NOT NULL,
	until   timestamptz NOT NULL,
	PRIMARY KEY (gateway, name)
);

CREATE TABLE scopegate_counts (
	gateway text COLLATE "C" NOT NULL,
	team    text COLLATE "C" NOT NULL,
	period  text COLLATE "C" NOT NULL,
	spent   integer NOT NULL,
	PRIMARY KEY (gateway, team, period)
);
