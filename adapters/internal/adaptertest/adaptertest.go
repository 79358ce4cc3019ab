// Package adaptertest holds the scenarios that every router runs, so that a sealed
// call is answered as it would have been in plaintext, whatever the router can do.
//
// Each scenario is a [Row]: one call, sent in plaintext and sealed, over HTTP/1.1 and
// HTTP/2, to the same application, which each router builds in its own idiom. What is
// compared is what the caller gets, what the handler saw, what is on the socket, and
// what the router's own accounting says.
package adaptertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"testing"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// Canary is in every body, requests and responses alike, and nowhere else.
const Canary = "canary-58213"

// Account is the account of all callers. They name it in the header X-Account, which
// stands for the credentials of an API.
const Account = "acme"

// Router is one that is under test.
type Router struct {
	Name string
	// New builds the application of a [Site]: the routes of [Site.Routes], the
	// middlewares of its [Stack], and its Middleware between them.
	New func(*Site) http.Handler
	// CopiesRequests says that the router leaves the temporary files of forms behind in
	// plaintext: net/http removes only those of the request that it knows.
	CopiesRequests bool
}

// Stack names what else is mounted. Outside is in front of sealhttp, Inside behind it.
type Stack string

// The stacks. Where a router or what belongs to it has a middleware of the kind, it is
// that one.
const (
	Bare               Stack = ""
	RecoverOutside     Stack = "recoverer outside"
	RecoverInside      Stack = "recoverer inside"
	DumpOutside        Stack = "body dump outside"
	DumpInside         Stack = "body dump inside"
	LoggerOutside      Stack = "logger outside"
	LoggerInside       Stack = "logger inside"
	GzipOutside        Stack = "gzip outside"
	GzipInside         Stack = "gzip inside"
	CORSOutside        Stack = "CORS outside"
	CORSInside         Stack = "CORS inside"
	LimiterOutside     Stack = "rate limiter outside"
	LimiterInside      Stack = "rate limiter inside"
	RequestIDOutside   Stack = "request id outside"
	RequestIDInside    Stack = "request id inside"
	TimeoutOutside     Stack = "timeout outside"
	TimeoutInside      Stack = "timeout inside"
	TimeoutHandler     Stack = "http.TimeoutHandler around all"
	BasicAuthOutside   Stack = "basic auth outside"
	BasicAuthInside    Stack = "basic auth inside"
	BearerAuthOutside  Stack = "bearer auth outside"
	BearerAuthInside   Stack = "bearer auth inside"
	SessionOutside     Stack = "session outside"
	SessionInside      Stack = "session inside"
	BodyLimitOutside   Stack = "body limit outside" // of BodyLimit bytes
	BodyLimitInside    Stack = "body limit inside"
	ErrorsOutside      Stack = "error renderer outside"
	ErrorsInside       Stack = "error renderer inside"
	Twice              Stack = "mounted at the root, the group and the route"
	AtGroup            Stack = "mounted at the group"
	AtRoute            Stack = "mounted at the route"
	RequiredAtRoute    Stack = "Required at the route, Optional at the root"
	CredentialUser           = "ada"
	CredentialPassword       = "lovelace"
	BodyLimit                = 64 << 10
)

// Site is one application, for one call, and what was noted in it.
type Site struct {
	M     *sealhttp.Middleware
	Stack Stack
	// Render asks for refusals to be rendered as the router renders errors.
	Render bool
	// File is the path of a file to be served.
	File string
	// Received is closed when the caller has its response.
	Received chan struct{}
	// LateDone, if it is set, is closed when what a handler left behind has ended.
	LateDone <-chan struct{}

	mu     sync.Mutex
	sight  *Sight
	notes  map[string]string
	logged *Logged
}

// Sight is what a handler saw of its request.
type Sight struct {
	Method, URL, Host string
	ContentLength     int64
	Header            http.Header
	TransferEncoding  []string
	Trailer           http.Header
	HasBody           bool
	Info              sealhttp.CallInfo
	Sealed            bool
}

// Logged is what an outer logger was told by the router.
type Logged struct {
	Status int
	Size   int64
}

// See notes a request. It is called behind all middlewares.
func (s *Site) See(r *http.Request) {
	info, sealed := sealhttp.FromContext(r.Context())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sight = &Sight{
		Method: r.Method, URL: r.URL.String(), Host: r.Host,
		ContentLength: r.ContentLength, Header: r.Header.Clone(),
		TransferEncoding: r.TransferEncoding, Trailer: r.Trailer.Clone(),
		HasBody: r.Body != nil && r.Body != http.NoBody,
		Info:    info, Sealed: sealed,
	}
}

// Note notes something else that is to be the same in plaintext and sealed.
func (s *Site) Note(key string, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notes == nil {
		s.notes = make(map[string]string)
	}
	s.notes[key] += fmt.Sprintln(value)
}

// Log notes what the router's accounting says, outside of sealhttp.
func (s *Site) Log(status int, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logged = &Logged{status, max(size, 0)} // gin has -1 for none
}

// noted returns what was noted.
func (s *Site) noted() (*Sight, map[string]string, *Logged) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sight, maps.Clone(s.notes), s.logged
}

// The keys of both sides.
var (
	serverKey = mustGenerate()
	callerKey = mustGenerate()
)

func mustGenerate() *seal.PrivateKey {
	key, err := seal.GenerateKey(seal.X25519AES256GCM)
	if err != nil {
		panic(err)
	}
	return key
}

// NewMiddleware returns a Middleware that knows the key of [Account].
func NewMiddleware(t testing.TB, opts ...sealhttp.Option) *sealhttp.Middleware {
	t.Helper()
	set, err := seal.NewKeySet(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	serverKeys := sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) { return set, nil })
	clientKeys := sealhttp.CacheClientKeys(nil, func(_ context.Context, account string) (*seal.PublicKey, error) {
		if account == Account {
			return callerKey.Public(), nil
		}
		return nil, sealhttp.ErrNoClientKey
	})
	m, err := sealhttp.New(serverKeys, append([]sealhttp.Option{sealhttp.WithClientKeys(clientKeys)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Large is a body of 400 KiB, more than net/http reads on its own to keep a connection,
// that no compression shortens much.
var Large = large()

func large() []byte {
	var b bytes.Buffer
	b.WriteString(Canary)
	block := sha256.Sum256([]byte(Canary))
	for b.Len() < 400<<10 {
		b.WriteString(hex.EncodeToString(block[:]))
		block = sha256.Sum256(block[:])
	}
	return b.Bytes()[:400<<10]
}

// readAll is io.ReadAll that does not hide how it ended.
func readAll(r io.Reader) string {
	b, err := io.ReadAll(r)
	if err != nil {
		return fmt.Sprintf("%s, then %v", b, err)
	}
	return string(b)
}
