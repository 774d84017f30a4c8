-- +goose Up

CREATE TABLE scopegate_tokens (
	gateway     text COLLATE "C" NOT NULL,
	nonce       text COLLATE "C" NOT NULL,
	id          text COLLATE "C", -- upstream's; NULL while it is not known
	team        text COLLATE "C" NOT NULL,
	credential  text COLLATE "C" NOT NULL, -- which may be of the configuration, and have no row
	state       text COLLATE "C" NOT NULL,
	cause       text NOT NULL,
	adopted     boolean NOT NULL,
	name        text NOT NULL,
	scopes      text[],
	allowed_ips text[],
	expires_at  text NOT NULL, -- as it was sent
	expires     timestamptz,
	created     timestamptz NOT NULL,
	created_by  text NOT NULL,
	changed     timestamptz NOT NULL,
	version     bigint NOT NULL,
	attempts    integer NOT NULL,
	due         timestamptz,
	failure     text NOT NULL,
	PRIMARY KEY (gateway, nonce)
);

-- What each request for one token asks. Rows without an id do not collide.
CREATE UNIQUE INDEX scopegate_tokens_id
	ON scopegate_tokens (gateway, id);

-- What is due, oldest first. Most rows of the others are due much later.
CREATE INDEX scopegate_tokens_due
	ON scopegate_tokens (gateway, state, due, nonce)
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

-- Pages of one team and of one credential.
CREATE INDEX scopegate_tokens_team_page
	ON scopegate_tokens (gateway, team, nonce);

CREATE INDEX scopegate_tokens_credential_page
	ON scopegate_tokens (gateway, credential, nonce);

CREATE TABLE scopegate_answers (
	gateway    text COLLATE "C" NOT NULL,
	key        bytea NOT NULL CHECK (length(key) = 32),
	nonce      text COLLATE "C" NOT NULL,
	generation integer NOT NULL,
	body       bytea NOT NULL CHECK (length(body) = 32),
	sealed     bytea, -- NULL until there is an answer
	until      timestamptz NOT NULL,
	PRIMARY KEY (gateway, key)
);

CREATE INDEX scopegate_answers_nonce
	ON scopegate_answers (gateway, nonce);

-- Those that are to be forgotten.
CREATE INDEX scopegate_answers_until
	ON scopegate_answers (gateway, until);

-- What the gateway's processes share and nobody else is to know.
CREATE TABLE scopegate_secrets (
	gateway text COLLATE "C" NOT NULL,
	name    text COLLATE "C" NOT NULL,
	value   bytea NOT NULL,
	PRIMARY KEY (gateway, name)
);
