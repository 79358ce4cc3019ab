package integration_test

import (
	"sync"
	"testing"
)

// group is subtests that run at once.
type group struct {
	t       *testing.T
	slots   chan struct{}
	all     sync.WaitGroup
	started int
}

// newGroup makes a group of so many at once, whatever the number of cores: they wait more
// than they work.
func newGroup(t *testing.T, atOnce int) *group {
	return &group{t: t, slots: make(chan struct{}, atOnce)}
}

func (g *group) start(name string, test func(*testing.T)) {
	g.started++
	g.slots <- struct{}{}
	g.all.Go(func() {
		defer func() { <-g.slots }()
		g.t.Run(name, test)
	})
}

func (g *group) wait() { g.all.Wait() }
