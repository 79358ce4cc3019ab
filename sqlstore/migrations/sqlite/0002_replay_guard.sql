-- The replay guard's memory: the ids of requests that were taken, until they expire, in
-- Unix milliseconds. The row with the empty id says since when ids are remembered; it is
-- here, so that whatever empties the table takes it along.
CREATE TABLE sealhttp_replay (
	id      BLOB PRIMARY KEY,
	expires INTEGER NOT NULL,
	since   INTEGER -- in Unix seconds, of the row with the empty id only
) WITHOUT ROWID;

CREATE INDEX sealhttp_replay_expires ON sealhttp_replay (expires);

-- How many ids a caller has in there, by the slice of time in which they expire. The
-- empty caller is all of them.
CREATE TABLE sealhttp_replay_counts (
	caller BLOB NOT NULL, -- a hash
	slice  INTEGER NOT NULL,
	n      INTEGER NOT NULL,
	PRIMARY KEY (caller, slice)
) WITHOUT ROWID;

CREATE INDEX sealhttp_replay_counts_slice ON sealhttp_replay_counts (slice);
