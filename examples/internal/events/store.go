package events

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Event is something that a person did.
type Event struct {
	ID    int64     `json:"id"`
	Time  time.Time `json:"time"`
	Type  string    `json:"type"`
	Email string    `json:"email"`
	Name  string    `json:"name"`
}

// Query asks for a page of events: those with a greater id than After.
type Query struct {
	After int64 `json:"after" query:"after" form:"after"`
	Limit int   `json:"limit" query:"limit" form:"limit"`
}

// Page is a part of a list.
type Page struct {
	Events []Event `json:"events"`
	Next   int64   `json:"next,omitempty"` // the After of the next page, 0 on the last one
}

// store holds each account's events, by ascending id. It stands for a database.
type store struct {
	mu     sync.RWMutex
	lastID int64
	events map[string][]Event
}

func (s *store) add(account string, e Event) Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastID++
	e.ID = s.lastID
	s.events[account] = append(s.events[account], e)
	return e
}

func (s *store) get(account string, id int64) (Event, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, found := s.find(account, id)
	if !found {
		return Event{}, false
	}
	return s.events[account][i], true
}

func (s *store) delete(account string, id int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := s.find(account, id)
	if found {
		s.events[account] = slices.Delete(s.events[account], i, i+1)
	}
	return found
}

// page returns a page of the events of one person or, with an empty email, of all.
func (s *store) page(account, email string, q Query) Page {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := Page{Events: []Event{}}
	i, found := s.find(account, q.After)
	if found {
		i++
	}
	for _, e := range s.events[account][i:] {
		if email != "" && !strings.EqualFold(e.Email, email) {
			continue
		}
		if len(p.Events) == q.Limit {
			p.Next = p.Events[q.Limit-1].ID
			break
		}
		p.Events = append(p.Events, e)
	}
	return p
}

func (s *store) find(account string, id int64) (i int, found bool) {
	return slices.BinarySearchFunc(s.events[account], id, func(e Event, id int64) int {
		return int(e.ID - id)
	})
}
