-- +goose Up

CREATE TABLE scopegate_tokens (
	gateway     TEXT NOT NULL,
	nonce       TEXT NOT NULL,
	id          TEXT, -- upstream's; NULL while it is not known
	team        TEXT NOT NULL,
	credential  TEXT NOT NULL, -- which may be of the configuration, and have no row
	state       TEXT NOT NULL,
	cause       TEXT NOT NULL,
	adopted     INTEGER NOT NULL,
	name        TEXT NOT NULL,
	scopes      TEXT,
	allowed_ips TEXT,
	expires_at  TEXT NOT NULL, -- as it was sent
	expires     INTEGER,
	created     INTEGER NOT NULL,
	created_by  TEXT NOT NULL,
	changed     INTEGER NOT NULL,
	version     INTEGER NOT NULL,
	attempts    INTEGER NOT NULL,
	due         INTEGER,
	failure     TEXT NOT NULL,
	PRIMARY KEY (gateway, nonce)
) STRICT, WITHOUT ROWID;

-- What each request for one token asks. Rows without an id do not collide.
CREATE UNIQUE INDEX scopegate_tokens_id
	ON scopegate_tokens (gateway, id);

-- What is due, oldest first. Most rows of the others are due much later.
CREATE INDEX scopegate_tokens_due
	ON scopegate_tokens (gateway, state, due)
	WHERE due IS NOT NULL;

-- The live ids of a team, and how many of its places are taken. Both are
-- answered from the index alone, and what is gone is not in it.
CREATE INDEX scopegate_tokens_team
	ON scopegate_tokens (gateway, team, state, id, expires)
	WHERE state <> 'gone';

-- Counts, from the index alone; and what a credential has minted.
CREATE INDEX scopegate_tokens_credential
	ON scopegate_tokens (gateway, state, credential, team, changed)
	WHERE state <> 'gone';

-- Pages of one team and of one credential; the primary key, and so the nonce,
-- follows by itself.
CREATE INDEX scopegate_tokens_team_page
	ON scopegate_tokens (gateway, team);

CREATE INDEX scopegate_tokens_credential_page
	ON scopegate_tokens (gateway, credential);

CREATE TABLE scopegate_answers (
	gateway    TEXT NOT NULL,
	key        BLOB NOT NULL CHECK (length(key) = 32),
	nonce      TEXT NOT NULL,
	generation INTEGER NOT NULL,
	body       BLOB NOT NULL CHECK (length(body) = 32),
	sealed     BLOB, -- NULL until there is an answer
	until      INTEGER NOT NULL,
	PRIMARY KEY (gateway, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX scopegate_answers_nonce
	ON scopegate_answers (gateway, nonce);

-- Those that are to be forgotten.
CREATE INDEX scopegate_answers_until
	ON scopegate_answers (gateway, until);

-- What the gateway's processes share and nobody else is to know.
CREATE TABLE scopegate_secrets (
	gateway TEXT NOT NULL,
	name    TEXT NOT NULL,
	value   BLOB NOT NULL,
	PRIMARY KEY (gateway, name)
) STRICT, WITHOUT ROWID;
