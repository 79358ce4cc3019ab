#!lua flags=no-writes
-- A script, for a client sends these to masters only.
return redis.call('EXISTS', KEYS[1])
