package integration_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// backend is the handlers behind the middleware, and what the test may ask of them and
// tell them. A call is named by the parameter call of its target.
type backend struct {
	mu      sync.Mutex
	runs    map[string]int
	gates   map[string]chan struct{}
	streams map[string]*stream
}

func newBackend() *backend {
	return &backend{runs: make(map[string]int), gates: make(map[string]chan struct{}), streams: make(map[string]*stream)}
}

// handler is what a service of the reader's own would be.
func (b *backend) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/run", b.run)
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	mux.HandleFunc("/sink", b.sink)
	mux.HandleFunc("/source", b.source)
	mux.HandleFunc("/mirror", b.mirror)
	mux.HandleFunc("/events", b.events)
	mux.HandleFunc("/stalled", b.stalled)
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.FormValue("code"))
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, r.FormValue("text"))
	})
	mux.HandleFunc("/abort", func(w http.ResponseWriter, r *http.Request) {
		b.ran(r)
		if r.FormValue("late") != "" {
			_, _ = io.WriteString(w, "half an answer")
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	})
	return mux
}

// ran counts that a call was executed.
func (b *backend) ran(r *http.Request) (name string, times int) {
	name = r.URL.Query().Get("call")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.runs[name]++
	return name, b.runs[name]
}

// run counts first: a call whose body does not arrive whole was executed, too.
func (b *backend) run(w http.ResponseWriter, r *http.Request) {
	name, times := b.ran(r)
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintf(w, "%s: %d, with %d bytes", name, times, n)
}

// stream begins to tell of a call.
func (b *backend) stream(r *http.Request) *stream {
	s := new(stream)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams[r.URL.Query().Get("call")] = s
	return s
}

// sink reads a body, and answers with its length and its sum.
func (b *backend) sink(w http.ResponseWriter, r *http.Request) {
	s := b.stream(r)
	defer s.Ended.Store(true)
	if r.URL.Query().Has("gate") {
		b.wait(r)
	}
	sum, n, err := sumOf(s.reading(r.Body))
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprint(w, summary(n, sum))
}

// source writes as many bytes as are asked for.
func (b *backend) source(w http.ResponseWriter, r *http.Request) {
	s := b.stream(r)
	defer s.Ended.Store(true)
	n, _ := strconv.ParseInt(r.FormValue("bytes"), 10, 64)
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.Copy(s.writing(w), newPattern(n))
}

// mirror answers with what it reads, as it reads it.
func (b *backend) mirror(w http.ResponseWriter, r *http.Request) {
	s := b.stream(r)
	defer s.Ended.Store(true)
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 has it anyway
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.Copy(s.writing(w), r.Body)
}

// events sends as many events as are asked for, each of them when the test says so.
func (b *backend) events(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Query().Get("events"))
	w.Header().Set("Content-Type", "text/event-stream")
	if r.URL.Query().Has("accel") {
		w.Header().Set("X-Accel-Buffering", "no")
	}
	for i := range n {
		_, _ = fmt.Fprintf(w, "data: event %d %s\n\n", i, r.URL.Query().Get("text"))
		if http.NewResponseController(w).Flush() != nil || !b.wait(r) {
			return
		}
	}
}

// stalled waits for the test, or until the caller is gone: at once, or with a half of its
// answer sent.
func (b *backend) stalled(w http.ResponseWriter, r *http.Request) {
	s := b.stream(r)
	defer s.Ended.Store(true)
	if r.URL.Query().Has("late") {
		_, _ = io.WriteString(w, "half an answer")
		_ = http.NewResponseController(w).Flush()
	}
	_, _ = io.Copy(io.Discard, r.Body) // on HTTP/1, the caller is not looked for before that
	b.wait(r)
}

// wait waits until the test opens the call's gate, once for each time.
func (b *backend) wait(r *http.Request) bool {
	select {
	case <-b.gate(r.URL.Query().Get("call")):
		return true
	case <-r.Context().Done():
		return false
	}
}

func (b *backend) gate(call string) chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.gates[call] == nil {
		b.gates[call] = make(chan struct{}, 16)
	}
	return b.gates[call]
}
