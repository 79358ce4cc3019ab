package keyring_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/sealhttp/sealhttp/internal/durablefile/faultydisk"
	"github.com/sealhttp/sealhttp/keyring"
)

var errCrash = errors.New("the process is gone")

const diskPath = "/data/ring"

// swapSteps are the system calls of one Swap where a state is stored.
var swapSteps = []string{
	"lock", "open", "stat", "read", "read", "close", "remove",
	"create", "write", "sync", "close", "rename", "opendir", "sync", "close", "unlock",
}

// stateOn returns what a disk holds, as a new process sees it.
func stateOn(t *testing.T, d *faultydisk.Disk) keyring.State {
	t.Helper()
	d.Mend()
	return load(t, keyring.NewFileStoreOn(d, diskPath))
}

// diskWith makes a disk that holds a state.
func diskWith(t *testing.T, state keyring.State) *faultydisk.Disk {
	t.Helper()
	d := faultydisk.New()
	if err := keyring.NewFileStoreOn(d, diskPath).Swap(t.Context(), 0, state, nil); err != nil {
		t.Fatal(err)
	}
	d.Steps = nil
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
	if !slices.Equal(d.Steps, swapSteps) {
		t.Fatalf("a Swap makes the system calls %q, want %q", d.Steps, swapSteps)
	}
	olds, news := 0, 0
	for at := 1; at <= len(swapSteps); at++ {
		for _, done := range []bool{false, true} {
			for _, lost := range []struct{ entries, data bool }{{}, {entries: true}, {data: true}, {true, true}} {
				d := diskWith(t, oldState)
				d.FailAt, d.Err, d.Crash, d.Done = at, errCrash, true, done
				swapErr := keyring.NewFileStoreOn(d, diskPath).Swap(t.Context(), 1, newState, nil)
				after := d.Restart(lost.entries, lost.data)
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
				if got := stateOn(t, after.Restart(true, true)); got.Revision != next.Revision {
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
			d := faultydisk.New()
			d.FailAt, d.Err, d.Crash = at, errCrash, true
			_ = keyring.NewFileStoreOn(d, diskPath).Swap(t.Context(), 0, oldState, nil)
			after := d.Restart(lose, lose)
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
			d.FailAt, d.Err, d.Done = at, errFull, done
			store := keyring.NewFileStoreOn(d, diskPath)
			err := store.Swap(t.Context(), 1, newState, nil)
			if !errors.Is(err, errFull) && !slices.Contains(harmless, swapSteps[at-1]) {
				t.Errorf("%s (step %d): got %v, want the disk's error", swapSteps[at-1], at, err)
			}
			if d.Has(diskPath + ".new") {
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
				if got := stateOn(t, d.Restart(true, true)); got.Revision != 2 {
					t.Errorf("%s (step %d): Swap returned no error, and a power cut undid it", swapSteps[at-1], at)
				}
			}
			d.Mend()
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
		d := faultydisk.New()
		kek := newKEK(t)
		ring := open(t, keyring.NewFileStoreOn(d, diskPath), kek, quiet())
		before := ring.KeySet()
		d.FailOn, d.Err = step, errors.New("no space left on device")
		if err := ring.Rotate(t.Context()); !errors.Is(err, d.Err) {
			t.Errorf("%s: got %v, want the disk's error", step, err)
		}
		if ring.KeySet() != before {
			t.Error("the keys have changed")
		}
		d.Mend()
		if err := ring.Rotate(t.Context()); err != nil {
			t.Error(err)
		}
		open(t, keyring.NewFileStoreOn(d.Restart(true, true), diskPath), kek, quiet())
		expectKeys(t, ring, 1, 0, 0)
	}
}
