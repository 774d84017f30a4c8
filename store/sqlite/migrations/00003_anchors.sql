-- +goose Up

-- Signatures of audit logs: of each log the last one of each day.
CREATE TABLE scopegate_anchors (
	gateway TEXT NOT NULL,
	log     TEXT NOT NULL,
	day     TEXT NOT NULL,
	seq     INTEGER NOT NULL,
	note    TEXT NOT NULL,
	PRIMARY KEY (gateway, log, day)
) STRICT, WITHOUT ROWID;
