package integration_test

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/keyring/publish"
	"github.com/sealhttp/sealhttp/sqlstore"
)

// replicaVariable is the environment variable that makes this binary a replica. It
// holds a replicaConfig.
const replicaVariable = "SEALHTTP_INTEGRATION_REPLICA"

const (
	serviceName = "api.example.com"
	ringName    = "api"
)

func TestMain(m *testing.M) {
	config := os.Getenv(replicaVariable)
	if config == "" {
		os.Exit(m.Run())
	}
	if err := runReplica(config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// replicaConfig is what a replica is started with.
type replicaConfig struct {
	DSN         string
	KEKFile     string
	SigningSeed []byte // what a KMS would have
	Schedule    keyring.Schedule
	Reload      time.Duration
	Validity    time.Duration // of the publication
	AccountTTL  time.Duration // of what is cached of an account
}

// report is what a replica tells the test, as a line of JSON.
type report struct {
	Kind     reportKind
	At       time.Time
	URL      string            `json:",omitempty"` // ready
	Key      uint32            `json:",omitempty"` // swapped, switched, event
	Revision uint64            `json:",omitempty"` // swapped, switched, event
	Event    keyring.EventType `json:",omitempty"`
	Error    string            `json:",omitempty"` // event, refused
}

type reportKind string

const (
	ready    reportKind = "ready"    // it serves
	swapped  reportKind = "swapped"  // its compare-and-swap has made Key the primary
	switched reportKind = "switched" // Key is the primary that it publishes
	happened reportKind = "event"    // of its ring
	refused  reportKind = "refused"  // a call, with the code in Error
)

// reporter writes reports. A pipe has what was written even if the process is killed.
type reporter struct {
	mu  sync.Mutex
	out *json.Encoder
}

func (p *reporter) tell(r report) {
	r.At = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.out.Encode(r) // without a reader the process ends, see runReplica
}

// reportingStore tells when it has swapped the primary.
type reportingStore struct {
	keyring.Store
	*reporter
}

func (s reportingStore) Swap(ctx context.Context, old uint64, next keyring.State, events []keyring.Event) error {
	err := s.Store.Swap(ctx, old, next, events)
	for _, e := range events {
		if err == nil && e.Type == keyring.EventPromoted {
			s.tell(report{Kind: swapped, Key: e.KeyID, Revision: next.Revision})
		}
	}
	return err
}

// runReplica serves a sealed API until it is killed, or the test that has started it
// is gone.
func runReplica(encoded string) error {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	var c replicaConfig
	if err := json.Unmarshal([]byte(encoded), &c); err != nil {
		return err
	}
	out := &reporter{out: json.NewEncoder(os.Stdout)}
	ctx := context.Background()
	handler, err := newService(ctx, c, out)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	out.tell(report{Kind: ready, URL: "http://" + listener.Addr().String()})
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	return server.Serve(listener)
}

// newService puts together what a service of the reader's own would: a ring and
// accounts in one database, the middleware over both, and the publication.
func newService(ctx context.Context, c replicaConfig, out *reporter) (http.Handler, error) {
	starting, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	db, err := sql.Open("pgx", c.DSN)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(8)
	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.WithTimeout(5*time.Second))
	if err != nil {
		return nil, err
	}
	if err := store.Migrate(starting); err != nil {
		return nil, err
	}
	kek, err := keyring.LocalKeyFile(c.KEKFile)
	if err != nil {
		return nil, err
	}
	ring, err := keyring.Open(starting, reportingStore{store.Keyring(ringName), out}, kek,
		keyring.WithName(ringName),
		keyring.WithSchedule(c.Schedule),
		keyring.WithReloadInterval(c.Reload),
		keyring.WithPublicationValidity(c.Validity),
		keyring.WithAudit(func(_ context.Context, e keyring.Event) {
			r := report{Kind: happened, Event: e.Type, Key: e.KeyID, Revision: e.Revision}
			if e.Err != nil {
				r.Error = e.Err.Error()
			}
			out.tell(r)
		}))
	if err != nil {
		return nil, err
	}
	registry, err := accounts.New(store.Accounts(),
		accounts.WithServerKeys(ring),
		accounts.WithDefaultPolicy(sealhttp.Required),
		accounts.WithCacheTTL(c.AccountTTL),
		accounts.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, err
	}
	if err := warmUp(starting, registry); err != nil {
		return nil, err
	}
	m, err := sealhttp.New(ring,
		sealhttp.WithClientKeys(registry),
		sealhttp.WithPolicyFunc(registry.Policy),
		sealhttp.WithObserver(func(r *http.Request, e sealhttp.Event) {
			ring.Used(r.Context(), e.KeyID)
			if e.Code != "" {
				out.tell(report{Kind: refused, Error: string(e.Code)})
			}
		}))
	if err != nil {
		return nil, err
	}
	signed, err := publish.NewHandler(ring, serviceName, ed25519.NewKeyFromSeed(c.SigningSeed), publish.WithValidity(c.Validity))
	if err != nil {
		return nil, err
	}
	tink, err := publish.NewTinkHandler(ring, publish.WithValidity(c.Validity))
	if err != nil {
		return nil, err
	}
	go ring.Run(ctx) //nolint:errcheck // it is the only one
	go reportSwitches(ring, out)

	mux := http.NewServeMux()
	mux.Handle("GET /keys", signed)
	mux.Handle("GET /tink", tink)
	mux.Handle("/encryption/", authenticate(http.StripPrefix("/encryption", registry.Handler())))
	mux.Handle("POST /api", authenticate(m.Handler(http.HandlerFunc(echo))))
	mux.HandleFunc("POST /operator/revoke/{id}", func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.ParseUint(r.PathValue("id"), 10, 32)
		if err == nil {
			err = ring.Revoke(keyring.ContextWithActor(r.Context(), "operator"), uint32(id))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return mux, nil
}

// authenticate stands for the API's own authentication.
func authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(sealhttp.ContextWithAccount(r.Context(), r.Header.Get("X-Account"))))
	})
}

// echo answers with what was sent, and who has sent it.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	_, _ = w.Write([]byte(answerTo(sealhttp.Account(r.Context()), string(body))))
}

func answerTo(account, body string) string { return body + ", said " + account }

// warmUp has every account cached before the first call comes, so that a database
// that stops right after the start stops no call.
func warmUp(ctx context.Context, registry *accounts.Registry) error {
	for account, err := range registry.All(ctx) {
		if err != nil {
			return err
		}
		r, err := http.NewRequestWithContext(sealhttp.ContextWithAccount(ctx, account.Name), http.MethodGet, "/", nil)
		if err != nil {
			return err
		}
		if _, err := registry.Policy(r); err != nil {
			return err
		}
	}
	return nil
}

func reportSwitches(ring *keyring.Keyring, out *reporter) {
	var primary uint32
	for range time.Tick(2 * time.Millisecond) {
		status := ring.Status()
		if status.Keys[0].ID != primary {
			primary = status.Keys[0].ID
			out.tell(report{Kind: switched, Key: primary, Revision: status.Revision})
		}
	}
}
