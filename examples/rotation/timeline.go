package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
)

// timeline prints what happens, and counts calls.
type timeline struct {
	mu       sync.Mutex
	out      io.Writer
	start    time.Time
	keys     []*keyCount // in the order of their generation
	calls    map[string]int
	failures map[string]int
	happened map[string]chan struct{}
}

type keyCount struct {
	id     uint32
	opened int // calls
}

func newTimeline(out io.Writer) *timeline {
	return &timeline{
		out:      out,
		start:    time.Now(),
		calls:    make(map[string]int),
		failures: make(map[string]int),
		happened: make(map[string]chan struct{}),
	}
}

var meanings = map[keyring.EventType]string{
	keyring.EventGenerated:       "pending: replicas load it, nobody uses it",
	keyring.EventPromoted:        "primary: callers that fetch use it",
	keyring.EventRetired:         "gone: its private half is deleted",
	keyring.EventPreviousKeyUsed: "a caller has not refreshed yet",
}

// replica returns what one replica tells its events to.
func (l *timeline) replica(n int) func(context.Context, keyring.Event) {
	return func(_ context.Context, e keyring.Event) { l.event(n, e) }
}

func (l *timeline) event(replica int, e keyring.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Type == keyring.EventPublished { // promoted follows
		return
	}
	n := l.number(e.KeyID)
	line := fmt.Sprintf("%5.2fs  replica %d  ", time.Since(l.start).Seconds(), replica)
	if n > 0 {
		line += fmt.Sprintf("key %d  ", n)
	}
	line += fmt.Sprintf("%-18s %-42s", e.Type, meanings[e.Type])
	if e.Err != nil {
		line += " " + e.Err.Error()
	}
	fmt.Fprintln(l.out, line+l.counts())
	select {
	case <-l.when(e.Type, n): // another replica has told it
	default:
		close(l.when(e.Type, n))
	}
}

// number returns a key's number, from 1.
func (l *timeline) number(id uint32) int {
	if id == 0 {
		return 0
	}
	for i, k := range l.keys {
		if k.id == id {
			return i + 1
		}
	}
	l.keys = append(l.keys, &keyCount{id: id})
	return len(l.keys)
}

func (l *timeline) counts() string {
	s := "opened:"
	for i, k := range l.keys {
		s += fmt.Sprintf("  key %d %4d", i+1, k.opened)
	}
	return s
}

// when returns a channel that is closed when something happens to a key.
func (l *timeline) when(what keyring.EventType, n int) chan struct{} {
	name := fmt.Sprint(what, n)
	if l.happened[name] == nil {
		l.happened[name] = make(chan struct{})
	}
	return l.happened[name]
}

func (l *timeline) promoted(n int) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.when(keyring.EventPromoted, n)
}

func (l *timeline) retired(n int) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.when(keyring.EventRetired, n)
}

// opened counts a call that a key opened.
func (l *timeline) opened(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[l.number(id)-1].opened++
}

// called counts a call as its caller saw it, and shows why it failed.
func (l *timeline) called(caller string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[caller]++
	if err != nil {
		l.failures[caller]++
		fmt.Fprintf(l.out, "%5.2fs  a call of the caller with %s failed: %v\n", time.Since(l.start).Seconds(), caller, err)
	}
}

// sum prints the sum of it. It returns an error if a call failed.
func (l *timeline) sum() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, "%5.2fs  the end %72s%s\n\n", time.Since(l.start).Seconds(), "", l.counts())
	failed := 0
	for _, caller := range []string{"sealhttp", "Tink"} {
		fmt.Fprintf(l.out, "The caller with %s: %d calls, %d failed.\n", caller, l.calls[caller], l.failures[caller])
		failed += l.failures[caller]
	}
	if failed > 0 {
		return fmt.Errorf("%d calls failed", failed)
	}
	return nil
}
