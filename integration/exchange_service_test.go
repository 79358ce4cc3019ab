package integration_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/redisguard"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/sqlstore"
)

// serviceConfig is what a service that takes exchanges is started with.
type serviceConfig struct {
	Keys     []keyConfig // the first is the primary
	Caller   []byte      // the public key that the account callerAccount has registered
	Window   time.Duration
	Variants []variant // besides the one without options

	// The guard: in memory, with so many bytes if that is not 0, or one of these.
	GuardBytes int64
	Redis      string // its address
	SQL        string // PostgreSQL's data source name
}

// callerAccount is the one account that has a key. Others are known by name only.
const callerAccount = "ada"

// keyConfig is a private key.
type keyConfig struct {
	ID  uint32
	Raw []byte
}

// variant is what a route behind some gateway needs. It has a port of its own.
type variant struct{ Authority, TargetPrefix string }

// serviceAddresses is what a service tells when it serves.
type serviceAddresses struct {
	Plain    string
	Variants []string
	Control  string // for the test, past any middleware
	Memory   memory
}

// service is such a process.
type service struct {
	*process
	serviceAddresses
}

func startService(t *testing.T, c serviceConfig) *service {
	t.Helper()
	s := new(service)
	s.process = startProcess(t, exchangePart{Service: &c}, &s.serviceAddresses)
	return s
}

// newKeys makes keys for a service, and their public halves.
func newKeys(t *testing.T, n int) (keys []keyConfig, public []*seal.PublicKey) {
	t.Helper()
	for range n {
		key, err := seal.GenerateKey(seal.X25519AES256GCM)
		check(t, err)
		keys = append(keys, keyConfig{key.ID(), key.Bytes()})
		public = append(public, key.Public())
	}
	return keys, public
}

func (c *serviceConfig) keySet(keys []keyConfig) (*seal.KeySet, error) {
	var private []*seal.PrivateKey
	for _, k := range keys {
		key, err := seal.NewPrivateKey(seal.X25519AES256GCM, k.ID, k.Raw)
		if err != nil {
			return nil, err
		}
		private = append(private, key)
	}
	return seal.NewKeySet(private[0], private[1:]...)
}

func (c *serviceConfig) guard() (sealhttp.ReplayGuard, error) {
	switch {
	case c.Redis != "":
		return redisguard.New(redis.NewClient(&redis.Options{Addr: c.Redis}))
	case c.SQL != "":
		db, err := sql.Open("pgx", c.SQL)
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(16)
		store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.WithTimeout(3*time.Second))
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := store.Migrate(ctx); err != nil {
			return nil, err
		}
		return store.ReplayGuard(), nil
	case c.GuardBytes != 0:
		return sealhttp.NewMemoryReplayGuard(c.GuardBytes)
	}
	return nil, nil
}

// run serves until the process is killed.
func (c *serviceConfig) run() error {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	var keys atomic.Pointer[seal.KeySet]
	set, err := c.keySet(c.Keys)
	if err != nil {
		return err
	}
	keys.Store(set)
	const most = 32 << 20
	opts := []sealhttp.Option{sealhttp.WithMaxRequestBytes(most), sealhttp.WithMaxResponseBytes(most)}
	guard, err := c.guard()
	if err != nil {
		return err
	}
	if guard != nil {
		opts = append(opts, sealhttp.WithReplayGuard(guard))
	}
	if c.Window != 0 {
		opts = append(opts, sealhttp.WithReplayWindow(c.Window))
	}
	if c.Caller != nil {
		caller, err := seal.NewPublicKey(seal.X25519AES256GCM, 1, c.Caller)
		if err != nil {
			return err
		}
		opts = append(opts, sealhttp.WithClientKeys(sealhttp.ClientKeysFunc(func(r *http.Request) (*seal.PublicKey, error) {
			if sealhttp.Account(r.Context()) != callerAccount {
				return nil, sealhttp.ErrNoClientKey
			}
			return caller, nil
		})))
	}
	source := sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return keys.Load(), nil })
	m, err := sealhttp.New(source, opts...)
	if err != nil {
		return err
	}
	b := newBackend()
	control := b.control()
	control.HandleFunc("POST /keys", func(w http.ResponseWriter, r *http.Request) {
		var next []keyConfig
		err := json.NewDecoder(r.Body).Decode(&next)
		if err == nil {
			set, err = c.keySet(next)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		keys.Store(set)
	})
	var addresses serviceAddresses
	if addresses.Control, err = serve(control); err != nil {
		return err
	}
	handler := b.handler()
	if addresses.Plain, err = serve(authenticate(m.Handler(handler))); err != nil {
		return err
	}
	for _, v := range c.Variants {
		var opts []sealhttp.Option
		if v.Authority != "" {
			opts = append(opts, sealhttp.WithAuthority(v.Authority))
		}
		if v.TargetPrefix != "" {
			opts = append(opts, sealhttp.WithTargetPrefix(v.TargetPrefix))
		}
		with, err := m.With(opts...)
		if err != nil {
			return err
		}
		address, err := serve(authenticate(with.Handler(handler)))
		if err != nil {
			return err
		}
		addresses.Variants = append(addresses.Variants, address)
	}
	if addresses.Memory, err = readMemory(); err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(addresses); err != nil {
		return err
	}
	select {} // see runPart
}

// serve serves on a port of its own, HTTP/1 and HTTP/2 without TLS.
func serve(handler http.Handler) (address string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: handler, Protocols: bothProtocols(), ReadHeaderTimeout: time.Minute}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}()
	return listener.Addr().String(), nil
}

func bothProtocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}
