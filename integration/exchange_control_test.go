package integration_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"runtime"
	"testing"
)

// control is what the test asks and tells, in clear.
func (b *backend) control() *http.ServeMux {
	mux := http.NewServeMux()
	answer := func(pattern string, of func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := of(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	answer("GET /runs", func(*http.Request) (any, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		return maps.Clone(b.runs), nil
	})
	answer("GET /memory", func(*http.Request) (any, error) { return readMemory() })
	answer("GET /goroutines", func(*http.Request) (any, error) { return runtime.NumGoroutine(), nil })
	answer("GET /stacks", func(*http.Request) (any, error) { return stacks(), nil })
	answer("GET /stream", func(r *http.Request) (any, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if s := b.streams[r.FormValue("call")]; s != nil {
			return s.state(), nil
		}
		return streamState{}, nil
	})
	answer("POST /gate", func(r *http.Request) (any, error) {
		b.gate(r.FormValue("call")) <- struct{}{}
		return true, nil
	})
	return mux
}

func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// ask asks a service's control.
func (s *service) ask(t *testing.T, method, path string, body, answer any) {
	t.Helper()
	encoded, err := json.Marshal(body)
	check(t, err)
	req, err := http.NewRequest(method, "http://"+s.Control+path, bytes.NewReader(encoded))
	check(t, err)
	req.Close = true // so that there is no goroutine for it
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%v\n%s", err, &s.stderr)
	}
	text, err := content(resp, nil)
	check(t, err)
	if answer != nil {
		check(t, json.Unmarshal(text, answer))
	}
}

// runs returns how often a call was executed by any of some services.
func runs(t *testing.T, call string, services ...*service) int {
	t.Helper()
	n := 0
	for _, s := range services {
		var all map[string]int
		s.ask(t, http.MethodGet, "/runs", nil, &all)
		n += all[call]
	}
	return n
}

// open opens a call's gate.
func (s *service) open(t *testing.T, call string) {
	t.Helper()
	s.ask(t, http.MethodPost, "/gate?call="+call, nil, nil)
}

func (s *service) stream(t *testing.T, call string) (state streamState) {
	t.Helper()
	s.ask(t, http.MethodGet, "/stream?call="+call, nil, &state)
	return state
}

func (s *service) memory(t *testing.T) (m memory) {
	t.Helper()
	s.ask(t, http.MethodGet, "/memory", nil, &m)
	return m
}

func (s *service) goroutines(t *testing.T) (n int) {
	t.Helper()
	s.ask(t, http.MethodGet, "/goroutines", nil, &n)
	return n
}
