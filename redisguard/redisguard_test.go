package redisguard_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/redisguard"
	"github.com/sealhttp/sealhttp/redisguard/internal/redisserver"
	"github.com/sealhttp/sealhttp/replaytest"
)

func connect(t testing.TB, s *redisserver.Server) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: s.Addr})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func newGuard(t testing.TB, client redis.UniversalClient, opts ...redisguard.Option) *redisguard.Guard {
	t.Helper()
	g, err := redisguard.New(client, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func entry(caller string) sealhttp.ReplayEntry {
	e := sealhttp.ReplayEntry{Caller: caller, Time: time.Now().Add(time.Minute), TTL: 12 * time.Minute}
	_, _ = rand.Read(e.ID[:])
	return e
}

func insert(t testing.TB, g sealhttp.ReplayGuard, e sealhttp.ReplayEntry, want error) {
	t.Helper()
	if err := g.Insert(t.Context(), e); !errors.Is(err, want) {
		t.Fatalf("Insert: got %v, want %v", err, want)
	}
}

// prefixes makes memories of one server.
func prefixes() func() redisguard.Option {
	n := 0
	return func() redisguard.Option {
		n++
		return redisguard.WithPrefix(fmt.Sprintf("test%d:", n))
	}
}

func TestGuard(t *testing.T) {
	for _, program := range redisserver.Programs(t) {
		t.Run(program, func(t *testing.T) {
			server := redisserver.Start(t, program)
			next := prefixes()
			replaytest.Test(t, func(t *testing.T) replaytest.Fixture {
				prefix := next()
				return replaytest.Fixture{
					Open: func(t *testing.T) sealhttp.ReplayGuard {
						return newGuard(t, connect(t, server), prefix, redisguard.WithCapacity(1024))
					},
					Capacity: 1024,
					Disconnect: func(t *testing.T) {
						server.Stop()
						t.Cleanup(server.StartAgain)
					},
				}
			})
		})
	}
}

func TestCluster(t *testing.T) {
	for _, program := range redisserver.Programs(t) {
		t.Run(program, func(t *testing.T) {
			servers := redisserver.StartCluster(t, program)
			client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{servers[0].Addr}})
			defer client.Close()
			g := newGuard(t, client)
			for range 200 {
				insert(t, g, entry("ada"), nil)
			}
			for _, s := range servers {
				if n := connect(t, s).DBSize(t.Context()).Val(); n == 0 {
					t.Errorf("%s has no keys: the shards are not spread", s.Addr)
				}
			}
			next := prefixes()
			replaytest.Test(t, func(t *testing.T) replaytest.Fixture {
				prefix := next()
				return replaytest.Fixture{
					Open: func(t *testing.T) sealhttp.ReplayGuard {
						client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{servers[0].Addr}})
						t.Cleanup(func() { _ = client.Close() })
						return newGuard(t, client, prefix, redisguard.WithCapacity(1024))
					},
					Capacity: 1024,
					Disconnect: func(t *testing.T) {
						for _, s := range servers {
							s.Stop()
						}
						t.Cleanup(func() {
							for _, s := range servers {
								s.StartAgain()
							}
							redisserver.AwaitCluster(t, servers)
						})
					},
				}
			})
		})
	}
}

// A shard moves to another node, with an insert after each step: nothing is taken twice,
// and nothing is refused for good.
func TestClusterMove(t *testing.T) {
	t.Parallel()
	servers := redisserver.StartCluster(t, redisserver.Programs(t)[0])
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{servers[0].Addr}})
	t.Cleanup(func() { _ = client.Close() })
	g := newGuard(t, client)
	var first []sealhttp.ReplayEntry
	for range 400 {
		first = append(first, entry("ada"))
		first[len(first)-1].Time = time.Now()
		insert(t, g, first[len(first)-1], nil)
	}
	nothingTwice := func() {
		t.Helper()
		for _, e := range first {
			if err := g.Insert(t.Context(), e); err == nil {
				t.Fatal("an id was taken twice")
			}
		}
	}
	const key = "sealhttp:replay:{3}:memory"
	slot := client.ClusterKeySlot(t.Context(), key).Val()
	var from, to *redis.Client
	var fromID, toID string
	for _, s := range servers {
		node := connect(t, s)
		id := node.ClusterMyID(t.Context()).Val()
		if node.Exists(t.Context(), key).Err() == nil {
			from, fromID = node, id
		} else {
			to, toID = node, id
		}
	}
	do := func(node *redis.Client, args ...any) {
		t.Helper()
		if err := node.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	do(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	do(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	host, port, _ := net.SplitHostPort(to.Options().Addr)
	keys := from.ClusterGetKeysInSlot(t.Context(), int(slot), 10_000).Val()
	if len(keys) < 10 {
		t.Fatalf("the shard has %d keys", len(keys))
	}
	for i, key := range keys {
		do(from, "MIGRATE", host, port, key, 0, 5000)
		if i%(len(keys)/3) == 0 {
			nothingTwice()
		}
	}
	nothingTwice()
	do(to, "CLUSTER", "SETSLOT", slot, "NODE", toID)
	do(from, "CLUSTER", "SETSLOT", slot, "NODE", toID)
	nothingTwice()
	for _, e := range first {
		insert(t, g, e, sealhttp.CodeReplayed)
	}
	for range 100 {
		insert(t, g, entry("ada"), nil)
	}
}

// awaitSecond waits until a whole second has begun since now.
func awaitSecond() { time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) }

// Whatever takes the memory, or a part of it, what was taken is not taken again.
func TestLoss(t *testing.T) {
	for _, program := range redisserver.Programs(t) {
		for name, test := range map[string]struct {
			args []string
			// lose makes the server forget the id that last inserts; it returns the server
			// that is asked from then on.
			lose func(t *testing.T, s *redisserver.Server, last func()) *redisserver.Server
		}{
			"restart": {nil, func(t *testing.T, s *redisserver.Server, last func()) *redisserver.Server {
				last()
				s.Stop()
				s.StartAgain()
				return s
			}},
			"restart with the end of the log lost": {[]string{"--appendonly", "yes"}, func(t *testing.T, s *redisserver.Server, last func()) *redisserver.Server {
				logs, err := filepath.Glob(filepath.Join(s.Dir(), "appendonlydir", "*.incr.aof"))
				if err != nil || len(logs) != 1 {
					t.Fatal(logs, err)
				}
				before, err := os.Stat(logs[0])
				if err != nil {
					t.Fatal(err)
				}
				last()
				s.Stop()
				if err := os.Truncate(logs[0], before.Size()); err != nil {
					t.Fatal(err)
				}
				s.StartAgain()
				return s
			}},
			"restart from an old snapshot": {nil, func(t *testing.T, s *redisserver.Server, last func()) *redisserver.Server {
				if err := connect(t, s).Save(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				last()
				s.Stop()
				s.StartAgain()
				if connect(t, s).DBSize(t.Context()).Val() == 0 {
					t.Fatal("the snapshot was not loaded")
				}
				return s
			}},
			"FLUSHALL": {nil, func(t *testing.T, s *redisserver.Server, last func()) *redisserver.Server {
				last()
				if err := connect(t, s).FlushAll(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				return s
			}},
			"failover": {nil, func(t *testing.T, s *redisserver.Server, last func()) *redisserver.Server {
				other := replica(t, program, s)
				promote(t, other)
				last()
				return other
			}},
			// The same process is the master again, with another's data.
			"failover and back": {nil, func(t *testing.T, s *redisserver.Server, last func()) *redisserver.Server {
				other := replica(t, program, s)
				promote(t, other)
				last()
				follow(t, s, other)
				promote(t, s)
				return s
			}},
			"eviction": {nil, func(t *testing.T, s *redisserver.Server, last func()) *redisserver.Server {
				last()
				client := connect(t, s)
				configure(t, client, "maxmemory-policy", "volatile-random")
				configure(t, client, "maxmemory", "1") // all goes that can
				for client.Keys(t.Context(), "*memory").Val() != nil && client.DBSize(t.Context()).Val() > 16 {
					_ = client.Set(t.Context(), "x", "y", 0).Err()
				}
				configure(t, client, "maxmemory", "0")
				configure(t, client, "maxmemory-policy", "noeviction")
				return s
			}},
		} {
			t.Run(program+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := redisserver.Start(t, program, test.args...)
				g := newGuard(t, connect(t, s))
				for range 100 { // each shard's memory has begun
					insert(t, g, entry("ada"), nil)
				}
				awaitSecond()
				e := entry("ada")
				s = test.lose(t, s, func() {
					e.Time = time.Now()
					insert(t, g, e, nil)
				})
				g = newGuard(t, connect(t, s))
				if found, err := g.Contains(t.Context(), e.ID); err != nil || found {
					t.Fatalf("nothing was lost: Contains is %v, %v", found, err)
				}
				awaitSecond()
				insert(t, g, e, sealhttp.CodeStale)
				e.Time = time.Now()
				insert(t, g, e, nil)
				insert(t, g, e, sealhttp.CodeReplayed)
			})
		}
	}
}

func replica(t *testing.T, program string, master *redisserver.Server) *redisserver.Server {
	t.Helper()
	s := redisserver.Start(t, program, "--repl-diskless-sync-delay", "0")
	follow(t, s, master)
	return s
}

// follow makes a server a replica, with all of the master's data.
func follow(t *testing.T, s, master *redisserver.Server) {
	t.Helper()
	host, port, _ := net.SplitHostPort(master.Addr)
	client, of := connect(t, s), connect(t, master)
	configure(t, of, "repl-diskless-sync-delay", "0")
	if err := client.Do(t.Context(), "REPLICAOF", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	const key = "the last key"
	if err := of.Set(t.Context(), key, s.Addr, 0).Err(); err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		if client.Get(t.Context(), key).Val() == s.Addr {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the replica does not get the master's data")
}

func promote(t *testing.T, s *redisserver.Server) {
	t.Helper()
	if err := connect(t, s).Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
}

func configure(t testing.TB, client *redis.Client, name, value string) {
	t.Helper()
	if err := client.ConfigSet(t.Context(), name, value).Err(); err != nil {
		t.Fatal(err)
	}
}

// isAnother reports whether an error is one that is answered with 503.
func isAnother(err error) bool {
	return err != nil && !errors.Is(err, sealhttp.CodeReplayed) && !errors.Is(err, sealhttp.CodeStale)
}

func TestOutOfMemory(t *testing.T) {
	client := connect(t, redisserver.Start(t, redisserver.Programs(t)[0]))
	g := newGuard(t, client)
	known := entry("ada")
	insert(t, g, known, nil)
	configure(t, client, "maxmemory", "1")
	e := entry("ada")
	if err := g.Insert(t.Context(), e); !isAnother(err) || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("Insert: got %v, want Redis's own error", err)
	}
	if found, err := g.Contains(t.Context(), known.ID); err != nil || !found {
		t.Errorf("Contains: got %v, %v; want true", found, err)
	}
	configure(t, client, "maxmemory", "0")
	insert(t, g, e, nil)
}

// Redis that may evict is refused from the first insert, and from the first eviction
// where it was changed later.
func TestEvictionPolicy(t *testing.T) {
	for _, policy := range []string{"allkeys-lru", "volatile-lru", "volatile-ttl"} {
		t.Run(policy, func(t *testing.T) {
			client := connect(t, redisserver.Start(t, redisserver.Programs(t)[0]))
			g := newGuard(t, client)
			configure(t, client, "maxmemory-policy", policy)
			insert(t, g, entry("ada"), nil) // no maxmemory: nothing is evicted
			client.FlushAll(t.Context())
			configure(t, client, "maxmemory", "100mb")
			if err := g.Insert(t.Context(), entry("ada")); !isAnother(err) || !strings.Contains(err.Error(), "maxmemory-policy") {
				t.Errorf("got %v, want an error that names maxmemory-policy", err)
			}
			if n := client.DBSize(t.Context()).Val(); n != 0 {
				t.Errorf("a refusal left %d keys", n)
			}
			configure(t, client, "maxmemory-policy", "noeviction")
			insert(t, g, entry("ada"), nil)
		})
	}
}

// A Redis that hangs counts as one that is down, whatever the client's timeouts.
func TestTimeout(t *testing.T) {
	s := redisserver.Start(t, redisserver.Programs(t)[0])
	for _, timeout := range []time.Duration{100 * time.Millisecond, time.Second} {
		opts := []redisguard.Option{redisguard.WithTimeout(timeout)}
		if timeout == time.Second { // the default
			opts = nil
		}
		client := redis.NewClient(&redis.Options{Addr: s.Addr, PoolSize: 4, ReadTimeout: 20 * time.Second})
		defer client.Close()
		g := newGuard(t, client, opts...)
		insert(t, g, entry("ada"), nil)
		resume := s.Hang()
		var wg sync.WaitGroup
		for range 16 { // on the open connection, on new ones, and waiting for one
			wg.Go(func() {
				start := time.Now()
				err := g.Insert(t.Context(), entry("ada"))
				if d := time.Since(start); !isAnother(err) || !errors.Is(err, context.DeadlineExceeded) || d > timeout+500*time.Millisecond {
					t.Errorf("Insert: got %v after %v, want context.DeadlineExceeded after %v", err, d, timeout)
				}
				if _, err := g.Contains(t.Context(), [16]byte{}); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Contains: got %v, want context.DeadlineExceeded", err)
				}
			})
		}
		wg.Wait()
		resume()
	}
}

// The caller's context ends a call that hangs, too.
func TestCancel(t *testing.T) {
	s := redisserver.Start(t, redisserver.Programs(t)[0])
	g := newGuard(t, connect(t, s), redisguard.WithTimeout(time.Minute))
	insert(t, g, entry("ada"), nil)
	defer s.Hang()()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := g.Insert(ctx, entry("ada")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// repeat sends what a client does twice, as it does when it has lost the answer.
type repeat struct{}

func (repeat) DialHook(next redis.DialHook) redis.DialHook { return next }
func (repeat) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (repeat) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") {
			_ = next(ctx, cmd)
		}
		return next(ctx, cmd)
	}
}

// A client that lost the answer of an insert and sends it again has not replayed it.
func TestClientRetries(t *testing.T) {
	s := redisserver.Start(t, redisserver.Programs(t)[0])
	client := connect(t, s)
	client.AddHook(repeat{})
	g := newGuard(t, client)
	for range 10 {
		e := entry("ada")
		insert(t, g, e, nil)
		insert(t, g, e, sealhttp.CodeReplayed)
	}
}

// fill inserts for five callers until so many ids are in, and then no more fit.
func fill(t *testing.T, g *redisguard.Guard, ttl time.Duration, want int) {
	t.Helper()
	n := 0
	for i, over := 0, 0; i < 5000 && over < 100; i++ {
		e := entry(fmt.Sprint("caller", i%5))
		e.TTL = ttl
		err := g.Insert(t.Context(), e)
		switch {
		case err == nil:
			n++
		case !errors.Is(err, sealhttp.ErrReplayGuardFull):
			t.Fatal(err)
		}
		if n == want {
			over++
		}
	}
	if n != want {
		t.Fatalf("%d ids fit, want %d", n, want)
	}
}

// What has expired makes room, for its caller and for all, and leaves nothing in Redis
// but since when each shard remembers.
func TestRoomAgain(t *testing.T) {
	t.Parallel()
	client := connect(t, redisserver.Start(t, redisserver.Programs(t)[0]))
	g := newGuard(t, client, redisguard.WithCapacity(1024))
	g.SetSlice(500 * time.Millisecond)
	for range 2 {
		fill(t, g, 3*time.Second, 1024)
		time.Sleep(3*time.Second + 500*time.Millisecond)
	}
	for range 300 {
		keys := client.Keys(t.Context(), "*").Val()
		if len(keys) == 16 && strings.HasSuffix(keys[0], "}:memory") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("these are left: %q", client.Keys(t.Context(), "*").Val())
}

// So does what expires among other ids.
func TestRoomAgainBesideOthers(t *testing.T) {
	t.Parallel()
	client := connect(t, redisserver.Start(t, redisserver.Programs(t)[0]))
	g := newGuard(t, client, redisguard.WithCapacity(1024))
	g.SetSlice(500 * time.Millisecond)
	const others = 200
	for i := range others {
		insert(t, g, entry(fmt.Sprint("caller", i%5)), nil)
	}
	for range 4 {
		fill(t, g, 3*time.Second, 1024-others)
		time.Sleep(3*time.Second + 500*time.Millisecond)
	}
	for i := range 200 { // in each shard
		insert(t, g, entry(fmt.Sprint("caller", 5+i%5)), nil)
	}
	for _, key := range client.Keys(t.Context(), "*}:count").Val() {
		if n := client.HLen(t.Context(), key).Val(); n > 4 { // of two times of inserts
			t.Errorf("%s has %d fields", key, n)
		}
	}
}

// The user whom the package's comment makes is one that the guard can do with.
func TestPermissions(t *testing.T) {
	source, err := os.ReadFile("redisguard.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rule, found := strings.Cut(string(source), "ACL SETUSER guard on >... ")
	rule, _, _ = strings.Cut(rule, "\n")
	if !found {
		t.Fatal("the package's comment makes no user")
	}
	s := redisserver.Start(t, redisserver.Programs(t)[0])
	args := []any{"ACL", "SETUSER", "guard", "on", ">secret"}
	for _, word := range strings.Fields(rule) {
		args = append(args, word)
	}
	if err := connect(t, s).Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: s.Addr, Username: "guard", Password: "secret"})
	defer client.Close()
	g := newGuard(t, client)
	e := entry("ada")
	insert(t, g, e, nil)
	insert(t, g, e, sealhttp.CodeReplayed)
	if found, err := g.Contains(t.Context(), e.ID); err != nil || !found {
		t.Errorf("Contains: got %v, %v; want true", found, err)
	}
	g = newGuard(t, client, redisguard.WithPrefix("other:"))
	if err := g.Insert(t.Context(), e); !isAnother(err) {
		t.Errorf("other keys: got %v, want an error", err)
	}
}

// An id takes no more than what WithCapacity says.
func TestBytes(t *testing.T) {
	client := connect(t, redisserver.Start(t, redisserver.Programs(t)[0]))
	for name, test := range map[string]struct {
		caller func(i int) string
		most   int64
	}{
		"8 callers":           {func(i int) string { return fmt.Sprint(i % 8) }, 170},
		"each another caller": {func(i int) string { return fmt.Sprint(i) }, 370},
	} {
		client.FlushAll(t.Context())
		g := newGuard(t, client)
		insert(t, g, entry("ada"), nil)
		before := usedMemory(t, client)
		const ids = 20_000
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := w; i < ids; i += 8 {
					if err := g.Insert(t.Context(), entry(test.caller(i))); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		each := (usedMemory(t, client) - before) / ids
		t.Logf("%s: %d bytes an id", name, each)
		if each > test.most || each < test.most/2 {
			t.Errorf("%s: an id takes %d bytes, said to be %d", name, each, test.most)
		}
	}
}

func usedMemory(t *testing.T, client *redis.Client) (n int64) {
	t.Helper()
	_, rest, _ := strings.Cut(client.Info(t.Context(), "memory").Val(), "used_memory:")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNewRefuses(t *testing.T) {
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}})
	defer ring.Close()
	for name, test := range map[string]struct {
		client redis.UniversalClient
		opt    redisguard.Option
		says   string
	}{
		"no client":         {nil, nil, "nil"},
		"a ring":            {ring, nil, "Ring"},
		"braces":            {client, redisguard.WithPrefix("a{b}"), "WithPrefix"},
		"too small":         {client, redisguard.WithCapacity(1023), "WithCapacity"},
		"no time":           {client, redisguard.WithTimeout(0), "WithTimeout"},
		"less than no time": {client, redisguard.WithTimeout(-time.Second), "WithTimeout"},
	} {
		var opts []redisguard.Option
		if test.opt != nil {
			opts = append(opts, test.opt)
		}
		if _, err := redisguard.New(test.client, opts...); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want an error that says %q", name, err, test.says)
		}
	}
}
