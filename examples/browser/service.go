package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/go-chi/cors"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// service is the API, with a key of each suite, so that the page can choose.
type service struct {
	ring *keyring.Keyring
	seal *sealhttp.Middleware
	seen *sights

	mu       sync.Mutex
	callers  map[string]*seal.PublicKey // registered keys by bearer token, nil for none yet
	received int
}

func newService(seen *sights) (*service, error) {
	var keys []*seal.PrivateKey
	for _, suite := range []seal.Suite{
		seal.X25519AES256GCM, seal.X25519AES128GCM, seal.X25519ChaCha20Poly1305,
		seal.P256AES256GCM, seal.P256AES128GCM, seal.XWingAES256GCM,
	} {
		key, err := seal.GenerateKey(suite)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	ring, err := keyring.New(keys[0], keys[1:]...)
	if err != nil {
		return nil, err
	}
	s := &service{ring: ring, seen: seen, callers: make(map[string]*seal.PublicKey)}
	s.seal, err = sealhttp.New(ring, sealhttp.WithClientKeys(s))
	return s, err
}

// newToken makes an account for whoever opens the page. It stands for a login.
func (s *service) newToken() string {
	const most = 1000
	s.mu.Lock()
	defer s.mu.Unlock()
	for token := range s.callers {
		if len(s.callers) < most {
			break
		}
		delete(s.callers, token)
	}
	token := rand.Text()
	s.callers[token] = nil
	return token
}

// ClientKey makes the service a [sealhttp.ClientKeys].
func (s *service) ClientKey(r *http.Request) (*seal.PublicKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := s.callers[sealhttp.Account(r.Context())]; key != nil {
		return key, nil
	}
	return nil, sealhttp.ErrNoClientKey
}

// handler is the API as it is called from a page of another origin: CORS outside, so
// that refusals can be read too, then authentication, then sealhttp.
func (s *service) handler(page string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /key", s.putKey)
	mux.HandleFunc("POST /notes", s.postNote)
	allow := cors.Handler(cors.Options{
		AllowedOrigins: []string{page},
		AllowedMethods: []string{"PUT", "POST"},
		AllowedHeaders: append([]string{"Authorization", "Idempotency-Key"}, sealhttp.CORSHeaders.Allow...),
		ExposedHeaders: sealhttp.CORSHeaders.Expose,
	})
	return allow(s.authenticate(s.seal.Handler(mux)))
}

func (s *service) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		s.mu.Lock()
		_, ok := s.callers[token]
		s.mu.Unlock()
		if !ok {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(sealhttp.ContextWithAccount(r.Context(), token)))
	})
}

// putKey registers the key that the browser has made. It takes sealed calls only:
// whoever could change the key on its way would read what is sealed to it.
func (s *service) putKey(w http.ResponseWriter, r *http.Request) {
	keyset, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "the body breaks off", http.StatusBadRequest)
		return
	}
	info, _ := sealhttp.FromContext(r.Context())
	keys, err := tinkkeys.ParsePublic(keyset)
	if err != nil || info.Profile != sealhttp.ExchangeProfile {
		http.Error(w, "a public key, please, as a Tink keyset in a call of the exchange profile", http.StatusUnprocessableEntity)
		return
	}
	s.mu.Lock()
	s.callers[sealhttp.Account(r.Context())] = keys[0]
	s.mu.Unlock()
	fmt.Fprint(w, keys[0].Fingerprint())
}

// postNote is the handler. It knows nothing of encryption; it notes what it saw for
// the page.
func (s *service) postNote(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "the body breaks off", http.StatusBadRequest)
		return
	}
	answer, status := s.take(body)
	w.Header().Set("Content-Type", "application/json")
	s.seen.add(r.Header.Get("Idempotency-Key"), func(c *call) {
		c.Handler = exchange{
			Request:  newMessage(r.Method+" "+r.URL.RequestURI(), r.Header, body),
			Response: newMessage(statusLine(status), w.Header(), answer),
		}
	})
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

func (s *service) take(body []byte) (answer []byte, status int) {
	var note struct{ Name, Note string }
	if err := json.Unmarshal(body, &note); err != nil || strings.TrimSpace(note.Name) == "" {
		return []byte(`{"error":"a name, please"}`), http.StatusUnprocessableEntity
	}
	s.mu.Lock()
	s.received++
	id := s.received
	s.mu.Unlock()
	answer, err := json.Marshal(map[string]any{"id": id, "answer": "noted for " + note.Name})
	if err != nil { // unreachable: strings and numbers
		panic(err)
	}
	return answer, http.StatusCreated
}

// keyset returns the public keys that the page seals to.
func (s *service) keyset() ([]byte, error) {
	return tinkkeys.Public(s.ring.PublicKeys()...)
}
