-- +goose Up

-- Signatures of audit logs: of each log the last one of each day.
CREATE TABLE scopegate_anchors (
	gateway text COLLATE "C" NOT NULL,
	log     text COLLATE "C" NOT NULL,
	day     text COLLATE "C" NOT NULL,
	seq     bigint NOT NULL,
	note    text NOT NULL,
	PRIMARY KEY (gateway, log, day)
);
