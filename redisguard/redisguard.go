// Package redisguard is a replay guard that the replicas of a service share, on Redis
// 7 or later, or Valkey: one server, one with replicas (Sentinel), or a cluster.
//
//	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
//	guard, err := redisguard.New(client)
//	m, err := sealhttp.New(keys, sealhttp.WithReplayGuard(guard))
//
// Redis must not evict: with a maxmemory and a maxmemory-policy other than noeviction,
// every insert fails. So a Redis that is a cache is none for this. Nothing needs to be
// persisted.
//
// # At most once, whatever Redis forgets
//
// An insert is one script, which Redis executes as a whole. With the ids, each shard
// keeps since when it remembers them, and in which memory: its replication id
// (master_replid), which is a new one for every start of a server and every promotion of
// a replica, and the count of evicted keys. Where either is another, or nothing is there,
// the memory begins anew, by the clock of Redis, and what was made before that second
// is refused as sealhttp.CodeStale: after a restart without persistence, or from an old
// snapshot, or with the last second of the log lost; after FLUSHALL; after the failover
// to a replica that had not got everything yet; after the move of a shard to another
// node. Callers with sealhttp's Transport then try once more, with a new time.
//
// What this cannot tell, since no one told Redis:
//   - A request that was made by a clock that runs ahead of that of Redis can be taken
//     once before such a loss, and once after. Keep the clocks in step; and do not set
//     that of Redis forward by two minutes or more: ids would expire early.
//   - A master that is cut off from its replicas, but not from all of your service, takes
//     requests beside the replica that was made master in its place. Set
//     min-replicas-to-write to 1, and min-replicas-max-lag below the time after which
//     a failover begins (in a cluster, cluster-node-timeout is enough for most cuts).
//
// # Capacity
//
// See [WithCapacity]. The ids are in 16 shards, which a cluster spreads over its nodes; an
// id's shard follows from the id. Capacity and quotas are counted a shard: who aims at
// one shard reaches its quota there, and no further.
//
// # Permissions
//
// The user needs the commands EVAL, EVALSHA, EXISTS, GET, SET, HGETALL, HDEL, HINCRBY,
// PEXPIRE, PTTL, TIME and INFO, and the keys of the prefix:
//
//	ACL SETUSER guard on >... ~sealhttp:replay:* +eval +evalsha +exists +get +set +hgetall +hdel +hincrby +pexpire +pttl +time +info
package redisguard

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealhttp/sealhttp"
)

//go:embed insert.lua
var insertSource string

//go:embed contains.lua
var containsSource string

var (
	insertScript   = redis.NewScript(insertSource)
	containsScript = redis.NewScript(containsSource)
)

const (
	defaultPrefix   = "sealhttp:replay:"
	defaultCapacity = 1_000_000
	defaultTimeout  = time.Second

	minCapacity = 1024
	// shards is part of the format: replicas must agree on it.
	shards = 16
	// quota is the part of the capacity that one caller may use: a quarter.
	quota = 4
)

// Guard is a [sealhttp.ReplayGuard] on Redis. It is safe for use by several goroutines
// at once; the replicas of a service have one each, with the same options.
type Guard struct {
	client   redis.UniversalClient
	prefix   string
	capacity int
	timeout  time.Duration
	slice    time.Duration // how long ids are counted together
}

// An Option is an option of [New].
type Option func(*Guard) error

// WithPrefix sets what the names of all keys begin with. The default is
// "sealhttp:replay:". Services that share no server keys, and so must not share a guard,
// need a prefix each where they share a Redis. It must not have a "{" in it, by which
// Redis Cluster chooses a slot.
func WithPrefix(prefix string) Option {
	return func(g *Guard) error {
		if strings.Contains(prefix, "{") {
			return fmt.Errorf("redisguard: WithPrefix: %q has a { in it", prefix)
		}
		g.prefix = prefix
		return nil
	}
}

// WithCapacity sets how many ids are remembered at most. The default is 1,000,000, the
// least 1024. One caller's ids get a quarter of it, and those of all unknown callers
// together another; the others find room still. Beyond that, Insert returns
// [sealhttp.ErrReplayGuardFull]. So the capacity is to be requests a second x 780 (the
// TTL of 720 seconds, by default, and a minute more, by which an id is counted too long
// at most), and 4 times that if one caller makes them all.
//
// An id takes 170 bytes of Redis, and a caller some 200 in each shard that it has ids in:
// the default is 170 MB, and 400 MB at most where callers send few.
func WithCapacity(ids int) Option {
	return func(g *Guard) error {
		if ids < minCapacity {
			return fmt.Errorf("redisguard: WithCapacity: %d ids are too few: at least %d", ids, minCapacity)
		}
		g.capacity = ids
		return nil
	}
}

// WithTimeout sets how long one call may take, whatever the client's own timeouts are,
// so that a Redis that hangs counts as one that is down. The default is one second.
func WithTimeout(d time.Duration) Option {
	return func(g *Guard) error {
		if d <= 0 {
			return fmt.Errorf("redisguard: WithTimeout: %v is no time", d)
		}
		g.timeout = d
		return nil
	}
}

// New makes a guard of a client: a *redis.Client, of a server or of Sentinel's master,
// or a *redis.ClusterClient. It does not connect. The client stays the caller's to close.
//
// A *redis.Ring is an error: when a server of a ring comes back, it has missed what
// another took in its place.
func New(client redis.UniversalClient, opts ...Option) (*Guard, error) {
	if client == nil {
		return nil, errors.New("redisguard: New: the client is nil")
	}
	if _, ring := client.(*redis.Ring); ring {
		return nil, errors.New("redisguard: New: on a redis.Ring, ids could be taken twice")
	}
	g := &Guard{client: client, prefix: defaultPrefix, capacity: defaultCapacity, timeout: defaultTimeout, slice: time.Minute}
	for _, opt := range opts {
		if err := opt(g); err != nil {
			return nil, err
		}
	}
	return g, nil
}

var errEvicts = errors.New("redisguard: Redis evicts keys: its maxmemory-policy must be noeviction")

// Insert is as [sealhttp.ReplayGuard] has it. Other errors than [sealhttp.CodeReplayed],
// [sealhttp.CodeStale] and [sealhttp.ErrReplayGuardFull] say that Redis could not be
// asked in time, that it refused (out of memory, or too few replicas), or that it evicts.
// The id may be inserted then.
func (g *Guard) Insert(ctx context.Context, e sealhttp.ReplayEntry) error {
	shard := g.shard(e.ID)
	caller := sha256.Sum256([]byte(e.Caller))
	keys := []string{
		idKey(shard, e.ID),
		shard + "memory",
		shard + "count",
		shard + "count:" + base64.RawURLEncoding.EncodeToString(caller[:16]),
	}
	args := []any{
		rand.Int64(), // names the call: a client that lost the answer sends it again
		e.Time.Unix(),
		(e.TTL + time.Millisecond - 1).Milliseconds(),
		g.capacity / shards,
		g.capacity / shards / quota,
		g.slice.Milliseconds(),
	}
	result, err := within(ctx, g.timeout, func(ctx context.Context) (string, error) {
		return insertScript.Run(ctx, g.client, keys, args...).Text()
	})
	if err != nil {
		return fmt.Errorf("redisguard: insert: %w", err)
	}
	switch result {
	case "inserted":
		return nil
	case "replayed":
		return sealhttp.CodeReplayed
	case "stale":
		return sealhttp.CodeStale
	case "full":
		return fmt.Errorf("redisguard: insert: %w", sealhttp.ErrReplayGuardFull)
	case "evicts":
		return errEvicts
	}
	return fmt.Errorf("redisguard: insert: the script returned %q", result)
}

// Contains is as [sealhttp.ReplayGuard] has it. An error says that Redis could not be
// asked in time.
func (g *Guard) Contains(ctx context.Context, id [16]byte) (bool, error) {
	keys := []string{idKey(g.shard(id), id)}
	found, err := within(ctx, g.timeout, func(ctx context.Context) (bool, error) {
		return containsScript.Run(ctx, g.client, keys).Bool()
	})
	if err != nil {
		return false, fmt.Errorf("redisguard: contains: %w", err)
	}
	return found, nil
}

// shard returns what the keys of an id's shard begin with. Redis Cluster chooses their
// slot by what is in braces.
func (g *Guard) shard(id [16]byte) string {
	return g.prefix + "{" + strconv.Itoa(int(crc32.ChecksumIEEE(id[:])%shards)) + "}:"
}

func idKey(shard string, id [16]byte) string {
	return shard + base64.RawURLEncoding.EncodeToString(id[:])
}

// within calls f, and returns when the time is up if f does not: by default, a client
// heeds its own timeouts only. No more are left behind than the client has connections,
// for who waits for one of those heeds the context.
func within[T any](ctx context.Context, d time.Duration, f func(context.Context) (T, error)) (T, error) {
	var zero T
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	type answer struct {
		result T
		err    error
	}
	answers := make(chan answer, 1)
	go func() {
		result, err := f(ctx)
		answers <- answer{result, err}
	}()
	select {
	case a := <-answers:
		return a.result, a.err
	case <-ctx.Done():
		return zero, ctx.Err()
	}
}
