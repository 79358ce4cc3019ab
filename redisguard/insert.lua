#!lua
-- Inserts one id, or says why not. All keys are of one shard, in one slot.
local id, memory, all, caller = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, made, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local capacity, quota, width = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local found = redis.call('GET', id)
if found == call then
	return 'inserted' -- by this very call, which the client has sent twice
elseif found then
	return 'replayed'
end

-- Since when does this shard remember, and in which memory? Whatever could have taken
-- ids away without the key that says so changes the memory's name: a server that starts
-- again with what it had on disk, and a replica that is made the master, get a new
-- replication id; an eviction is counted.
local function field(info, name)
	local _, last = string.find(info, '\n' .. name .. ':', 1, true)
	return string.match(info, '^[^\r]*', last + 1)
end
local info = redis.call('INFO', 'stats', 'replication')
local name = field(info, 'master_replid') .. ' ' .. field(info, 'evicted_keys')
local now = redis.call('TIME')
local since, of = string.match(redis.call('GET', memory) or '', '^(%d+) (.*)$')
if of ~= name then
	info = redis.call('INFO', 'memory')
	if field(info, 'maxmemory') ~= '0' and field(info, 'maxmemory_policy') ~= 'noeviction' then
		return 'evicts'
	end
	since = now[1]
	redis.call('SET', memory, since .. ' ' .. name)
end
if made < tonumber(since) then
	return 'stale'
end

-- Ids are counted by the slice of time in which they expire: a hash of few fields,
-- for the shard and for the caller.
now = now[1] * 1000 + math.floor(now[2] / 1000)
local function held(counts)
	local n, fields = 0, redis.call('HGETALL', counts)
	for i = 1, #fields, 2 do
		if (fields[i] + 1) * width <= now then
			redis.call('HDEL', counts, fields[i])
		else
			n = n + fields[i + 1]
		end
	end
	return n
end
if held(all) >= capacity or held(caller) >= quota then
	return 'full'
end
redis.call('SET', id, call, 'PX', ttl)
local slice = math.floor((now + ttl) / width)
for _, counts in ipairs({all, caller}) do
	if redis.call('HINCRBY', counts, slice, 1) == 1 then
		local left = (slice + 1) * width - now
		if redis.call('PTTL', counts) < left then
			redis.call('PEXPIRE', counts, left)
		end
	end
end
return 'inserted'
