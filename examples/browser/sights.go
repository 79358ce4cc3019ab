package main

import (
	"fmt"
	"net/http"
	"sync"
)

// sights keeps what proxy and handler saw of the last calls, by Idempotency-Key.
type sights struct {
	mu    sync.Mutex
	calls map[string]*call
	order []string // oldest first
}

// call is one call as the page shows it.
type call struct {
	Proxy   exchange `json:"proxy"`
	Handler exchange `json:"handler"`
}

type exchange struct {
	Request  message `json:"request"`
	Response message `json:"response"`
}

// message is a request or a response. Start is its first line.
type message struct {
	Start  string      `json:"start"`
	Header [][2]string `json:"header"`
	Body   []byte      `json:"body"`
}

// shown are the fields that say what is sealed, and what is not.
var shown = []string{"Authorization", "Idempotency-Key", "Content-Type", "Accept", "Sealed-Content-Type", "Sealed-Exchange", "Sealed-Error"}

func newMessage(start string, h http.Header, body []byte) message {
	m := message{Start: start, Header: [][2]string{}, Body: body}
	for _, name := range shown {
		for _, value := range h[name] {
			m.Header = append(m.Header, [2]string{name, value})
		}
	}
	return m
}

func statusLine(status int) string { return fmt.Sprintf("%d %s", status, http.StatusText(status)) }

func newSights() *sights { return &sights{calls: make(map[string]*call)} }

// add notes something of a call. One without an id is none of the form's.
func (s *sights) add(id string, note func(*call)) {
	const most = 100
	if id == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[id] == nil {
		if len(s.order) == most {
			delete(s.calls, s.order[0])
			s.order = s.order[1:]
		}
		s.calls[id] = new(call)
		s.order = append(s.order, id)
	}
	note(s.calls[id])
}

func (s *sights) get(id string) (call, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.calls[id]
	if !ok {
		return call{}, false
	}
	return *c, true
}
