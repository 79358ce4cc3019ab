-- A key ring: one row, changed only on the condition of its revision. Private keys
-- in data are encrypted.
CREATE TABLE sealhttp_keyrings (
	name     TEXT COLLATE "C" PRIMARY KEY,
	revision BIGINT NOT NULL CHECK (revision > 0),
	data     BYTEA NOT NULL
);

-- A caller's account: its registered public keys and its policy.
CREATE TABLE sealhttp_accounts (
	account  TEXT COLLATE "C" PRIMARY KEY,
	revision BIGINT NOT NULL CHECK (revision > 0),
	data     BYTEA NOT NULL
);

-- What was changed, when and by whom: one row an event, written in the transaction
-- of the change. The ids give their order, and may leave some out; the revisions of a
-- subject may not. key_id 0 and empty texts stand for none.
CREATE TABLE sealhttp_audit (
	id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	kind        TEXT NOT NULL, -- 'keyring' or 'account'
	subject     TEXT COLLATE "C" NOT NULL, -- the name of the ring or the account
	revision    BIGINT NOT NULL,
	n           INTEGER NOT NULL, -- of several events of one revision
	at          TIMESTAMPTZ NOT NULL,
	event       TEXT NOT NULL,
	key_id      BIGINT NOT NULL,
	fingerprint TEXT NOT NULL,
	actor       TEXT NOT NULL,
	by_key_id   BIGINT NOT NULL,
	reason      TEXT NOT NULL,
	policy      TEXT NOT NULL
);

-- Not unique: a ring that is written back over a lost or restored row repeats
-- revisions that are here already.
CREATE INDEX sealhttp_audit_subject ON sealhttp_audit (kind, subject, revision, n);
