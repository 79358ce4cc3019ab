package integration_test

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealhttp/sealhttp/internal/postgres"
	"github.com/sealhttp/sealhttp/seal"
)

// store is what replicas share a replay guard on. It can be stopped, as by a crash, and
// started again.
type store interface {
	configure(*serviceConfig)
	// begin has replicas use it until its memory has begun. What was made in the second
	// before that is refused, as what may have been taken before is.
	begin(t *testing.T, key *seal.PublicKey, replicas ...*service)
	Stop()
	StartAgain()
}

// stores are all there are.
var stores = map[string]func(*testing.T) store{
	"Redis": func(t *testing.T) store { return startRedis(t) },
	"PostgreSQL": func(t *testing.T) store {
		server := postgres.Start(t)
		server.Open("replay")
		return sqlStore{server}
	},
}

type sqlStore struct{ *postgres.Server }

func (s sqlStore) configure(c *serviceConfig) { c.SQL = postgres.DSN(s.Addr(), "replay") }

func (s sqlStore) begin(t *testing.T, key *seal.PublicKey, replicas ...*service) {
	t.Helper()
	awaitExecution(t, key, replicas)
}

// awaitExecution waits until each replica executes a call.
func awaitExecution(t *testing.T, key *seal.PublicKey, replicas []*service) {
	t.Helper()
	eventually(t, "each replica executes a call", func() bool {
		for _, replica := range replicas {
			r := record(t, key, http.MethodGet, time.Now())
			if r.once(t, replica, "") != r.executed() {
				return false
			}
		}
		return true
	})
}

// redisStore is a real Redis with nothing on disk.
type redisStore struct {
	t    *testing.T
	port string
	dir  string
	cmd  *exec.Cmd
}

func startRedis(t *testing.T) *redisStore {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("Redis is not installed: these tests need a real one (Debian: apt-get install redis-server)")
	}
	s := &redisStore{t: t, port: strconv.Itoa(freePort(t)), dir: t.TempDir()}
	t.Cleanup(s.Stop)
	s.StartAgain()
	return s
}

func (s *redisStore) address() string { return net.JoinHostPort("127.0.0.1", s.port) }

func (s *redisStore) configure(c *serviceConfig) { c.Redis = s.address() }

func (s *redisStore) StartAgain() {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", "--port", s.port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--logfile", "log")
	check(s.t, s.cmd.Start())
	for range 1000 {
		if conn, err := net.Dial("tcp", s.address()); err == nil {
			_ = conn.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatal("Redis does not start")
}

func (s *redisStore) begin(t *testing.T, key *seal.PublicKey, replicas ...*service) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: s.address()})
	defer client.Close()
	awaitExecution(t, key, replicas)
	for len(s.memories(t, client)) < redisShards {
		record(t, key, http.MethodGet, time.Now()).once(t, replicas[0], "")
	}
}

// redisShards is how many memories the guard has in one Redis.
const redisShards = 16

// memories returns the keys that say since when the guard remembers.
func (s *redisStore) memories(t *testing.T, client *redis.Client) []string {
	t.Helper()
	keys, err := client.Keys(t.Context(), "*:memory").Result()
	check(t, err)
	return keys
}

// age makes the guard's memory a day older. Only one that is older than the replay window
// takes what was made by clocks that are slow.
func (s *redisStore) age(t *testing.T, key *seal.PublicKey, replicas ...*service) {
	t.Helper()
	s.begin(t, key, replicas...)
	client := redis.NewClient(&redis.Options{Addr: s.address()})
	defer client.Close()
	for _, memory := range s.memories(t, client) {
		value, err := client.Get(t.Context(), memory).Result()
		check(t, err)
		since, name, _ := strings.Cut(value, " ")
		seconds, err := strconv.ParseInt(since, 10, 64)
		check(t, err)
		check(t, client.Set(t.Context(), memory, fmt.Sprintf("%d %s", seconds-86_400, name), 0).Err())
	}
}

func (s *redisStore) Stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}
