package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
)

// disk is a file system that can crash, be full, and lose what was not synced. It
// knows files in one folder.
type disk struct {
	mu      sync.Mutex
	entries map[string]*inode // as processes see them
	lasting map[string]*inode // as they are after a power cut
	locked  map[string]bool
	steps   []string // system calls so far

	// failAt is the step, counted from 1, that fails; 0: none. With crash every later
	// one fails too, and with done the step takes place before.
	failAt int
	failOn string // the next step of that name is the one
	err    error
	crash  bool
	done   bool
}

type inode struct {
	data    []byte
	lasting []byte
	mode    fs.FileMode
}

var errCrash = errors.New("the process is gone")

func newDisk() *disk {
	return &disk{entries: make(map[string]*inode), lasting: make(map[string]*inode), locked: make(map[string]bool)}
}

// step runs f as one system call, unless it is to fail.
func (d *disk) step(name string, f func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steps = append(d.steps, name)
	n := len(d.steps)
	if name == d.failOn {
		d.failAt, d.failOn = n, ""
	}
	switch {
	case d.failAt == 0 || n < d.failAt || n > d.failAt && !d.crash:
		return f()
	case n == d.failAt && d.done:
		_ = f()
	}
	return d.err
}

// restart is what is there after a crash. After a power cut, entries and data that
// were not synced may be lost, each for itself.
func (d *disk) restart(loseEntries, loseData bool) *disk {
	r := newDisk()
	entries := d.entries
	if loseEntries {
		entries = d.lasting
	}
	for name, i := range entries {
		data := i.data
		if loseData {
			data = i.lasting
		}
		r.entries[name] = &inode{bytes.Clone(data), bytes.Clone(data), i.mode}
		r.lasting[name] = r.entries[name]
	}
	return r
}

func (d *disk) Open(name string) (keyring.File, error) {
	var f *openFile
	err := d.step("open", func() error {
		i := d.entries[name]
		if i == nil {
			return fs.ErrNotExist
		}
		f = &openFile{disk: d, inode: i, rest: i.data}
		return nil
	})
	return f, err
}

func (d *disk) Create(name string) (keyring.File, error) {
	var f *openFile
	err := d.step("create", func() error {
		if d.entries[name] != nil {
			return fs.ErrExist
		}
		d.entries[name] = &inode{mode: 0o600}
		f = &openFile{disk: d, inode: d.entries[name]}
		return nil
	})
	return f, err
}

func (d *disk) Rename(from, to string) error {
	return d.step("rename", func() error {
		if d.entries[from] == nil {
			return fs.ErrNotExist
		}
		d.entries[to] = d.entries[from]
		delete(d.entries, from)
		return nil
	})
}

func (d *disk) Remove(name string) error {
	return d.step("remove", func() error {
		if d.entries[name] == nil {
			return fs.ErrNotExist
		}
		delete(d.entries, name)
		return nil
	})
}

func (d *disk) OpenDir(string) (keyring.File, error) {
	return &openFile{disk: d}, d.step("opendir", func() error { return nil })
}

func (d *disk) Lock(_ context.Context, name string) (io.Closer, error) {
	err := d.step("lock", func() error {
		if d.locked[name] {
			return errors.New("the lock is held, and nobody will free it")
		}
		d.locked[name] = true
		return nil
	})
	return closeFunc(func() error {
		return d.step("unlock", func() error { d.locked[name] = false; return nil })
	}), err
}

type closeFunc func() error

func (f closeFunc) Close() error { return f() }

// openFile is a file, or the folder if its inode is nil.
type openFile struct {
	*disk
	inode *inode
	rest  []byte
}

func (f *openFile) Read(b []byte) (n int, err error) {
	err = f.step("read", func() error {
		if len(f.rest) == 0 {
			return io.EOF
		}
		n = copy(b, f.rest)
		f.rest = f.rest[n:]
		return nil
	})
	return n, err
}

// Write writes a half if it fails after it was done: the disk was full then.
func (f *openFile) Write(b []byte) (int, error) {
	n := 0
	err := f.step("write", func() error {
		n = len(b)
		if len(f.steps) == f.failAt {
			n /= 2
		}
		f.inode.data = append(f.inode.data, b[:n]...)
		return nil
	})
	return n, err
}

func (f *openFile) Sync() error {
	return f.step("sync", func() error {
		if f.inode == nil {
			f.lasting = make(map[string]*inode)
			for name, i := range f.entries {
				f.lasting[name] = i
			}
			return nil
		}
		f.inode.lasting = bytes.Clone(f.inode.data)
		return nil
	})
}

func (f *openFile) Close() error { return f.step("close", func() error { return nil }) }

func (f *openFile) Stat() (fs.FileInfo, error) {
	return info{f.inode.mode}, f.step("stat", func() error { return nil })
}

type info struct{ mode fs.FileMode }

func (info) Name() string        { return "" }
func (info) Size() int64         { return 0 }
func (i info) Mode() fs.FileMode { return i.mode }
func (info) ModTime() time.Time  { return time.Time{} }
func (info) IsDir() bool         { return false }
func (info) Sys() any            { return nil }

const diskPath = "/data/ring"

// swapSteps are the system calls of one Swap where a state is stored.
var swapSteps = []string{
	"lock", "open", "stat", "read", "read", "close", "remove",
	"create", "write", "sync", "close", "rename", "opendir", "sync", "close", "unlock",
}

// stateOn returns what a disk holds, as a new process sees it.
func stateOn(t *testing.T, d *disk) keyring.State {
	t.Helper()
	d.failAt = 0
	return load(t, keyring.NewFileStoreOn(d, diskPath))
}

// diskWith makes a disk that holds a state.
func diskWith(t *testing.T, state keyring.State) *disk {
	t.Helper()
	d := newDisk()
	if err := keyring.NewFileStoreOn(d, diskPath).Swap(t.Context(), 0, state, nil); err != nil {
		t.Fatal(err)
	}
	d.steps = nil
	return d
}

var (
	oldState = keyring.State{Revision: 1, Data: bytes.Repeat([]byte("old state\n"), 20)}
	newState = keyring.State{Revision: 2, Data: bytes.Repeat([]byte("a new and longer state\n"), 20)}
)

// The process or the machine stops at any system call of a Swap, before or after it
// took place, with all or nothing of what was not synced on the disk: the file holds
// the old state or the new one, and the next Swap works.
func TestCrashAtEveryStep(t *testing.T) {
	d := diskWith(t, oldState)
	if err := keyring.NewFileStoreOn(d, diskPath).Swap(t.Context(), 1, newState, nil); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.steps, swapSteps) {
		t.Fatalf("a Swap makes the system calls %q, want %q", d.steps, swapSteps)
	}
	olds, news := 0, 0
	for at := 1; at <= len(swapSteps); at++ {
		for _, done := range []bool{false, true} {
			for _, lost := range []struct{ entries, data bool }{{}, {entries: true}, {data: true}, {true, true}} {
				d := diskWith(t, oldState)
				d.failAt, d.err, d.crash, d.done = at, errCrash, true, done
				swapErr := keyring.NewFileStoreOn(d, diskPath).Swap(t.Context(), 1, newState, nil)
				after := d.restart(lost.entries, lost.data)
				got := stateOn(t, after)
				switch {
				case got.Revision == 1 && bytes.Equal(got.Data, oldState.Data) && swapErr != nil:
					olds++
				case got.Revision == 2 && bytes.Equal(got.Data, newState.Data):
					news++
				default:
					t.Errorf("%s (step %d, done %v, lost %v): Swap returned %v, and there is revision %d of %d bytes", swapSteps[at-1], at, done, lost, swapErr, got.Revision, len(got.Data))
				}
				next := keyring.State{Revision: got.Revision + 1, Data: []byte("next")}
				if err := keyring.NewFileStoreOn(after, diskPath).Swap(t.Context(), got.Revision, next, nil); err != nil {
					t.Errorf("%s: the next Swap: %v", swapSteps[at-1], err)
				}
				if got := stateOn(t, after.restart(true, true)); got.Revision != next.Revision {
					t.Errorf("%s: the next Swap did not last", swapSteps[at-1])
				}
			}
		}
	}
	if olds == 0 || news == 0 {
		t.Errorf("%d times the old state and %d times the new one: the test shows nothing", olds, news)
	}
	t.Logf("%d crashes: %d times the old state, %d times the new one", olds+news, olds, news)
}

// The first Swap leaves nothing or its state.
func TestCrashAtFirstSwap(t *testing.T) {
	for at := 1; at <= len(swapSteps); at++ {
		for _, lose := range []bool{false, true} {
			d := newDisk()
			d.failAt, d.err, d.crash = at, errCrash, true
			_ = keyring.NewFileStoreOn(d, diskPath).Swap(t.Context(), 0, oldState, nil)
			after := d.restart(lose, lose)
			got, err := keyring.NewFileStoreOn(after, diskPath).Load(t.Context())
			if !errors.Is(err, keyring.ErrNotFound) && (err != nil || !bytes.Equal(got.Data, oldState.Data)) {
				t.Errorf("step %d: got revision %d, %v", at, got.Revision, err)
			}
		}
	}
}

// A system call fails: Swap says so, unless it does not matter, and the file holds
// the old state or the new one. What Swap has said is stored lasts.
func TestErrorAtEveryStep(t *testing.T) {
	errFull := errors.New("no space left on device")
	harmless := []string{"remove", "close", "unlock"} // of nothing; of what was read; of the lock
	for at := 1; at <= len(swapSteps); at++ {
		for _, done := range []bool{false, true} {
			d := diskWith(t, oldState)
			d.failAt, d.err, d.done = at, errFull, done
			store := keyring.NewFileStoreOn(d, diskPath)
			err := store.Swap(t.Context(), 1, newState, nil)
			if !errors.Is(err, errFull) && !slices.Contains(harmless, swapSteps[at-1]) {
				t.Errorf("%s (step %d): got %v, want the disk's error", swapSteps[at-1], at, err)
			}
			if _, left := d.entries[diskPath+".new"]; left {
				t.Errorf("%s (step %d): the unfinished file is left", swapSteps[at-1], at)
			}
			got := stateOn(t, d)
			want := oldState
			if got.Revision == 2 {
				want = newState
			}
			if !bytes.Equal(got.Data, want.Data) {
				t.Errorf("%s: revision %d of %d bytes", swapSteps[at-1], got.Revision, len(got.Data))
			}
			if err == nil {
				if got := stateOn(t, d.restart(true, true)); got.Revision != 2 {
					t.Errorf("%s (step %d): Swap returned no error, and a power cut undid it", swapSteps[at-1], at)
				}
			}
			d.locked = make(map[string]bool)
			if err := store.Swap(t.Context(), got.Revision, keyring.State{Revision: got.Revision + 1}, nil); err != nil {
				t.Errorf("%s: the next Swap: %v", swapSteps[at-1], err)
			}
		}
	}
}

// A ring on a disk that is full or read-only goes on with what it has, and changes
// when that is over.
func TestRingOnFullDisk(t *testing.T) {
	for _, step := range []string{"lock", "create", "write", "sync", "rename"} {
		d := newDisk()
		kek := newKEK(t)
		ring := open(t, keyring.NewFileStoreOn(d, diskPath), kek, quiet())
		before := ring.KeySet()
		d.failOn, d.err = step, errors.New("no space left on device")
		if err := ring.Rotate(t.Context()); !errors.Is(err, d.err) {
			t.Errorf("%s: got %v, want the disk's error", step, err)
		}
		if ring.KeySet() != before {
			t.Error("the keys have changed")
		}
		d.failAt = 0
		d.locked = make(map[string]bool)
		if err := ring.Rotate(t.Context()); err != nil {
			t.Error(err)
		}
		open(t, keyring.NewFileStoreOn(d.restart(true, true), diskPath), kek, quiet())
		expectKeys(t, ring, 1, 0, 0)
	}
}
