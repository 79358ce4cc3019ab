package accounts_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/internal/durablefile/faultydisk"
)

const diskPath = "/data/accounts.json"

var errDisk = errors.New("no space left on device")

// swapSteps are the system calls of one Swap, of a store that has read the file before.
var swapSteps = []string{
	"lock", "open", "stat", "read", "read", "close", "remove",
	"create", "write", "sync", "close", "rename", "opendir", "sync", "close", "unlock",
}

func openDisk(t *testing.T, d *faultydisk.Disk) *accounts.FileStore {
	t.Helper()
	store, err := accounts.OpenFileStoreOn(d, diskPath)
	check(t, err)
	return store
}

func diskRecord(revision uint64) accounts.Record {
	return accounts.Record{Account: "acme", Revision: revision, Data: []byte(`{"policy":"Required"}`)}
}

// diskWith makes a disk that holds revision 1 of an account, and a store on it.
func diskWith(t *testing.T) (*faultydisk.Disk, *accounts.FileStore) {
	t.Helper()
	d := faultydisk.New()
	store := openDisk(t, d)
	check(t, store.Swap(t.Context(), "acme", 0, diskRecord(1), nil))
	_, err := store.Load(t.Context(), "acme")
	check(t, err)
	d.Steps = nil
	return d, store
}

// revisionOn returns what a disk holds of the account, as a new process sees it.
func revisionOn(t *testing.T, d *faultydisk.Disk) uint64 {
	t.Helper()
	d.Mend()
	r, err := openDisk(t, d).Load(t.Context(), "acme")
	check(t, err)
	if string(r.Data) != string(diskRecord(0).Data) {
		t.Fatalf("the record is %s", r.Data)
	}
	return r.Revision
}

// TestCrashAtEveryStep: the process or the machine stops at any system call of a
// change, before or after it took place, with all or nothing of what was not synced on
// the disk. The file holds what it held before or after, and the next change works.
func TestCrashAtEveryStep(t *testing.T) {
	d, store := diskWith(t)
	check(t, store.Swap(t.Context(), "acme", 1, diskRecord(2), nil))
	if !slices.Equal(d.Steps, swapSteps) {
		t.Fatalf("a Swap makes the system calls %q, want %q", d.Steps, swapSteps)
	}
	olds, news := 0, 0
	for at := 1; at <= len(swapSteps); at++ {
		for _, done := range []bool{false, true} {
			for _, lost := range []struct{ entries, data bool }{{}, {entries: true}, {data: true}, {true, true}} {
				d, store := diskWith(t)
				d.FailAt, d.Err, d.Crash, d.Done = at, errDisk, true, done
				swapErr := store.Swap(t.Context(), "acme", 1, diskRecord(2), nil)
				after := d.Restart(lost.entries, lost.data)
				got := revisionOn(t, after)
				switch {
				case got == 1 && swapErr != nil:
					olds++
				case got == 2:
					news++
				default:
					t.Errorf("%s (step %d, done %v, lost %v): Swap returned %v, and there is revision %d", swapSteps[at-1], at, done, lost, swapErr, got)
				}
				check(t, openDisk(t, after).Swap(t.Context(), "acme", got, diskRecord(got+1), nil))
				if last := revisionOn(t, after.Restart(true, true)); last != got+1 {
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

// TestCrashAtFirstOpen: a store whose making was cut short can be made again.
func TestCrashAtFirstOpen(t *testing.T) {
	whole := faultydisk.New()
	openDisk(t, whole)
	for at := 1; at <= len(whole.Steps); at++ {
		for _, lose := range []bool{false, true} {
			d := faultydisk.New()
			d.FailAt, d.Err, d.Crash = at, errDisk, true
			_, _ = accounts.OpenFileStoreOn(d, diskPath)
			store := openDisk(t, d.Restart(lose, lose))
			_, err := store.Load(t.Context(), "acme")
			wantIs(t, "Load", err, accounts.ErrNotFound)
			check(t, store.Swap(t.Context(), "acme", 0, diskRecord(1), nil))
		}
	}
}

// TestErrorAtEveryStep: a system call fails. Swap says so, unless it does not matter,
// and the file holds what it held before or after. What Swap has said is stored lasts.
func TestErrorAtEveryStep(t *testing.T) {
	harmless := []string{"remove", "close", "unlock"} // of nothing; of what was read; of the lock
	for at := 1; at <= len(swapSteps); at++ {
		for _, done := range []bool{false, true} {
			d, store := diskWith(t)
			d.FailAt, d.Err, d.Done = at, errDisk, done
			err := store.Swap(t.Context(), "acme", 1, diskRecord(2), nil)
			if !errors.Is(err, errDisk) && !slices.Contains(harmless, swapSteps[at-1]) {
				t.Errorf("%s (step %d): got %v, want the disk's error", swapSteps[at-1], at, err)
			}
			if d.Has(diskPath + ".new") {
				t.Errorf("%s (step %d): the unfinished file is left", swapSteps[at-1], at)
			}
			got := revisionOn(t, d)
			if err == nil {
				if last := revisionOn(t, d.Restart(true, true)); last != 2 {
					t.Errorf("%s (step %d): Swap returned no error, and a power cut undid it", swapSteps[at-1], at)
				}
			}
			if err := store.Swap(t.Context(), "acme", got, diskRecord(got+1), nil); err != nil {
				t.Errorf("%s: the next Swap: %v", swapSteps[at-1], err)
			}
		}
	}
}
