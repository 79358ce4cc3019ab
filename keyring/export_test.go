package keyring

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sealhttp/sealhttp/internal/durablefile"
	"github.com/sealhttp/sealhttp/seal"
)

// What tests outside of the package need of its inside.

const (
	MaxLive    = maxLive
	MaxHistory = maxHistory
)

// NewFileStoreOn makes a FileStore on another file system.
func NewFileStoreOn(fsys durablefile.FileSystem, path string) *FileStore {
	return &FileStore{path: path, fs: fsys}
}

// WithClock sets the wall clock.
func WithClock(now func() time.Time) Option {
	return func(c *config) error {
		c.clock = now
		return nil
	}
}

// Tick does once what Run does.
func (k *Keyring) Tick(ctx context.Context) time.Duration {
	return k.tick(ctx)
}

// TestKey is a key for Plan: its state began at Stamp, and the replica has seen it
// since Seen, from its beginning if Witnessed.
type TestKey struct {
	ID        uint32
	State     KeyState
	Stamp     time.Time
	Raw       bool
	Seen      time.Duration
	Witnessed bool
	Missing   bool
}

// Plan returns the steps that are due, and the time to the next.
func Plan(s Schedule, interval time.Duration, keys []TestKey, now time.Time, uptime time.Duration, raw bool) ([]string, time.Duration) {
	t, err := timing{Schedule: s, interval: interval}.complete(false)
	if err != nil {
		panic(err)
	}
	r := ring{}
	v := view{now: now, uptime: uptime, seen: make(map[uint32]sighting), prefix: !raw}
	held := make(map[uint32]bool)
	for _, k := range keys {
		rk := key{id: k.ID, state: k.State, prefix: !k.Raw, created: k.Stamp}
		switch k.State {
		case Primary:
			rk.promoted = k.Stamp
		case Previous:
			rk.replaced = k.Stamp
		case Retired:
			rk.retired = k.Stamp
		}
		r.keys = append(r.keys, rk)
		v.seen[k.ID] = sighting{k.State, k.Stamp, k.Seen, k.Witnessed}
		held[k.ID] = !k.Missing
	}
	v.held = func(id uint32) bool { return held[id] }
	r.sort()
	steps, wait := t.plan(&r, &v)
	var names []string
	for _, s := range steps {
		name := string(s.do)
		if s.id != 0 {
			name += fmt.Sprint(" ", s.id)
		}
		names = append(names, name)
	}
	return names, wait
}

// Complete fills in a schedule's defaults. An interval or validity of 0 is none.
func Complete(s Schedule, interval, validity time.Duration, raw bool) (Schedule, time.Duration, error) {
	t, err := timing{s, interval, validity}.complete(raw)
	return t.Schedule, t.interval, err
}

// ParseDocument parses stored data as far as possible without its integrity key,
// and encodes it again.
func ParseDocument(data []byte) (again []byte, keys int, err error) {
	d, err := decode(data)
	if err != nil {
		return nil, 0, err
	}
	r, err := d.ring()
	if err != nil {
		return nil, 0, err
	}
	again, err = d.encode()
	return again, len(r.keys), err
}

// IntegrityKey is what who has it can forge states with.
func (k *Keyring) IntegrityKey() []byte { return k.integrity }

// Forge changes stored data as who knows the integrity key could.
func (k *Keyring) Forge(state State, revision uint64, change func(key *DocumentKey)) State {
	d, err := decode(state.Data)
	if err != nil {
		panic(err)
	}
	d.Revision = revision
	for i := range d.Keys {
		change(&d.Keys[i])
	}
	d.Serial++
	data, err := d.sign(k.integrity)
	if err != nil {
		panic(err)
	}
	return State{revision, data}
}

type DocumentKey = documentKey

// PrivateData is the associated data of a private key at rest.
func PrivateData(ring string, id uint32, suite seal.Suite) []byte {
	return privateData(ring, id, suite)
}

// Lose forgets everything.
func (s *MemoryStore) Lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = State{}
}

// Sign makes of JSON whatever document there is in it, with a good MAC.
func Sign(data []byte) (State, bool) {
	var d document
	if json.Unmarshal(data, &d) != nil {
		return State{}, false
	}
	d.Format, d.Version, d.Ring, d.Revision = documentFormat, documentVersion, "default", 1
	d.IntegrityKey = make([]byte, 32)
	signed, err := d.sign(d.IntegrityKey)
	return State{1, signed}, err == nil
}
