-- The replay guard's memory: the ids of requests that were taken, until they expire. The
-- row with the empty id says since when ids are remembered; it is here, so that whatever
-- empties the table takes it along. UNLOGGED: nothing is written ahead, and PostgreSQL
-- itself empties the table after a crash and on a standby that is promoted.
CREATE UNLOGGED TABLE sealhttp_replay (
	id      BYTEA PRIMARY KEY,
	expires TIMESTAMPTZ NOT NULL,
	-- Of the row with the empty id only:
	since   TIMESTAMPTZ, -- in whole seconds
	server  TIMESTAMPTZ, -- the start of the server that wrote the row
	written XID8         -- the transaction that wrote the row, unless it was restored
);

CREATE INDEX sealhttp_replay_expires ON sealhttp_replay (expires);

-- How many ids a caller has in there, by the slice of time in which they expire. The
-- empty caller is all of them. Every so many-th insert counts for so many.
CREATE UNLOGGED TABLE sealhttp_replay_counts (
	caller BYTEA NOT NULL, -- a hash
	slice  BIGINT NOT NULL,
	n      BIGINT NOT NULL,
	PRIMARY KEY (caller, slice)
) WITH (fillfactor = 50); -- n changes often, and in place if there is room

CREATE INDEX sealhttp_replay_counts_slice ON sealhttp_replay_counts (slice);

-- Inserts one id, or says why not. made is in Unix seconds.
CREATE FUNCTION sealhttp_replay_insert(
	new_id BYTEA, new_caller BYTEA, made BIGINT, ttl INTERVAL,
	capacity BIGINT, quota BIGINT, step BIGINT, slice_ms BIGINT
) RETURNS TEXT LANGUAGE plpgsql AS $$
DECLARE
	called CONSTANT TIMESTAMPTZ := clock_timestamp();
	began TIMESTAMPTZ;
	this_slice CONSTANT BIGINT := floor(extract(epoch FROM called) * 1000 / slice_ms);
	its_slice CONSTANT BIGINT := floor(extract(epoch FROM called + ttl) * 1000 / slice_ms);
	counted RECORD;
BEGIN
	IF EXISTS (SELECT FROM sealhttp_replay r WHERE r.id = new_id AND r.expires > called) THEN
		RETURN 'replayed';
	END IF;

	-- A row that another server wrote, or that was copied here, speaks of another memory.
	SELECT m.since INTO began FROM sealhttp_replay m
		WHERE m.id = '' AND m.server = pg_postmaster_start_time() AND m.written::xid = m.xmin;
	IF NOT FOUND THEN
		INSERT INTO sealhttp_replay AS m (id, expires, since, server, written)
			VALUES ('', 'infinity', date_trunc('second', clock_timestamp()), pg_postmaster_start_time(), pg_current_xact_id())
			ON CONFLICT (id) DO UPDATE SET since = excluded.since, server = excluded.server, written = excluded.written
			WHERE m.server <> excluded.server OR m.written::xid <> m.xmin;
		-- Of several that come here at once, one writes the row.
		SELECT m.since INTO began FROM sealhttp_replay m WHERE m.id = '';
	END IF;
	IF to_timestamp(made) < began THEN
		RETURN 'stale';
	END IF;

	SELECT coalesce(sum(c.n) FILTER (WHERE c.caller = ''), 0) AS of_all,
			coalesce(sum(c.n) FILTER (WHERE c.caller = new_caller), 0) AS of_caller
		INTO counted FROM sealhttp_replay_counts c
		WHERE c.caller IN ('', new_caller) AND c.slice >= this_slice;
	IF counted.of_all >= capacity OR counted.of_caller >= quota THEN
		RETURN 'full';
	END IF;

	-- Waits for another transaction that inserts the id; an id that has expired makes way.
	INSERT INTO sealhttp_replay AS r (id, expires) VALUES (new_id, called + ttl)
		ON CONFLICT (id) DO UPDATE SET expires = excluded.expires WHERE r.expires <= called;
	IF NOT FOUND THEN
		RETURN 'replayed';
	END IF;

	-- Now and then, some of what has expired goes. What is locked goes another time.
	IF random() < 1.0 / 32 THEN
		DELETE FROM sealhttp_replay WHERE ctid = ANY (ARRAY(
			SELECT r.ctid FROM sealhttp_replay r WHERE r.expires <= called ORDER BY r.expires LIMIT 128 FOR UPDATE SKIP LOCKED));
		DELETE FROM sealhttp_replay_counts WHERE ctid = ANY (ARRAY(
			SELECT c.ctid FROM sealhttp_replay_counts c WHERE c.slice < this_slice ORDER BY c.slice LIMIT 128 FOR UPDATE SKIP LOCKED));
	END IF;

	-- Last, for others wait for these rows; and always in this order.
	IF random() * step < 1 THEN
		INSERT INTO sealhttp_replay_counts AS c (caller, slice, n) VALUES ('', its_slice, step)
			ON CONFLICT (caller, slice) DO UPDATE SET n = c.n + excluded.n;
		INSERT INTO sealhttp_replay_counts AS c (caller, slice, n) VALUES (new_caller, its_slice, step)
			ON CONFLICT (caller, slice) DO UPDATE SET n = c.n + excluded.n;
	END IF;
	RETURN 'inserted';
END
$$;
