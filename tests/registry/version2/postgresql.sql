CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE schema_version (
	version INTEGER NOT NULL,
	PRIMARY KEY (version)
);

CREATE TABLE configs (
	seq SERIAL NOT NULL,
	config_id VARCHAR(64) NOT NULL,
	resolved TEXT NOT NULL,
	created_ms BIGINT NOT NULL,
	PRIMARY KEY (seq),
	UNIQUE (config_id)
);

CREATE TABLE evidence (
	seq SERIAL NOT NULL,
	evidence_id VARCHAR(64) NOT NULL,
	config_id VARCHAR(64) NOT NULL,
	basis TEXT NOT NULL,
	metrics TEXT NOT NULL,
	metrics_id VARCHAR(64) NOT NULL,
	created_ms BIGINT NOT NULL,
	PRIMARY KEY (seq),
	UNIQUE (evidence_id, metrics_id),
	FOREIGN KEY(config_id) REFERENCES configs (config_id)
);

CREATE INDEX ix_evidence_evidence_id ON evidence (evidence_id);

CREATE INDEX ix_evidence_config_id ON evidence (config_id);

CREATE TABLE verdicts (
	seq SERIAL NOT NULL,
	verdict_id VARCHAR(64) NOT NULL,
	config_id VARCHAR(64) NOT NULL,
	evidence_id VARCHAR(64) NOT NULL,
	metrics_id VARCHAR(64) NOT NULL,
	policy_id VARCHAR(64) NOT NULL,
	passed BOOLEAN NOT NULL,
	gates TEXT NOT NULL,
	night_id VARCHAR(200) NOT NULL,
	at_ms BIGINT NOT NULL,
	PRIMARY KEY (seq),
	UNIQUE (verdict_id),
	FOREIGN KEY(config_id) REFERENCES configs (config_id)
);

CREATE INDEX ix_verdicts_config_id ON verdicts (config_id);

CREATE TABLE proposals (
	seq SERIAL NOT NULL,
	night_id VARCHAR(200) NOT NULL,
	lane VARCHAR(200) NOT NULL,
	config_id VARCHAR(64),
	policy_id VARCHAR(64) NOT NULL,
	generation INTEGER NOT NULL,
	reason TEXT NOT NULL,
	at_ms BIGINT NOT NULL,
	PRIMARY KEY (seq),
	FOREIGN KEY(config_id) REFERENCES configs (config_id)
);

CREATE INDEX ix_proposals_night_id ON proposals (night_id);

CREATE TABLE transitions (
	seq SERIAL NOT NULL,
	transition_id VARCHAR(64) NOT NULL,
	at_ms BIGINT NOT NULL,
	config_id VARCHAR(64) NOT NULL,
	lane VARCHAR(200) NOT NULL,
	from_state VARCHAR(20) NOT NULL,
	to_state VARCHAR(20) NOT NULL,
	"trigger" VARCHAR(200) NOT NULL,
	who VARCHAR(200) NOT NULL,
	why TEXT NOT NULL,
	generation INTEGER NOT NULL,
	verdict_id VARCHAR(64) NOT NULL, action VARCHAR(20) DEFAULT '' NOT NULL, size_multiplier FLOAT,
	PRIMARY KEY (seq),
	UNIQUE (transition_id),
	FOREIGN KEY(config_id) REFERENCES configs (config_id)
);

CREATE INDEX ix_transitions_config_id ON transitions (config_id);

CREATE TABLE lanes (
	name VARCHAR(200) NOT NULL,
	config_id VARCHAR(64),
	generation INTEGER NOT NULL,
	size_multiplier FLOAT NOT NULL,
	transition_id VARCHAR(64) NOT NULL, state VARCHAR(20) DEFAULT '' NOT NULL,
	PRIMARY KEY (name),
	FOREIGN KEY(config_id) REFERENCES configs (config_id)
);

CREATE TABLE looks (
	seq SERIAL NOT NULL,
	look_id VARCHAR(64) NOT NULL,
	night_id VARCHAR(200) NOT NULL,
	slot VARCHAR(200) NOT NULL,
	config_ids TEXT NOT NULL,
	venue VARCHAR(64) NOT NULL,
	first_day DATE NOT NULL,
	last_day DATE NOT NULL,
	returns BYTEA NOT NULL,
	data_hash VARCHAR(64) NOT NULL,
	policy_id VARCHAR(64) NOT NULL,
	at_ms BIGINT NOT NULL,
	PRIMARY KEY (seq),
	UNIQUE (look_id)
);

CREATE INDEX ix_looks_night_id ON looks (night_id);

CREATE INDEX ix_looks_venue_days ON looks (venue, first_day, last_day);
