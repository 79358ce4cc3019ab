//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package accounts_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/accounts/accountstest"
	"github.com/sealhttp/sealhttp/internal/durablefile/faultydisk"
	"github.com/sealhttp/sealhttp/seal"
)

func init() {
	shared["file"] = func(t *testing.T) func() accounts.Store {
		path := filepath.Join(t.TempDir(), "accounts.json")
		return func() accounts.Store { return openFile(t, path) }
	}
}

func TestFileStore(t *testing.T) {
	accountstest.Run(t, func(t *testing.T) accountstest.Fixture {
		path := filepath.Join(t.TempDir(), "accounts.json")
		return accountstest.Fixture{Open: func(t *testing.T) accounts.Store { return openFile(t, path) }}
	})
}

func openFile(t testing.TB, path string) *accounts.FileStore {
	t.Helper()
	store, err := accounts.OpenFileStore(path)
	check(t, err)
	return store
}

// TestFileOutlives: another program finds what the first one has stored.
func TestFileOutlives(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "accounts.json")
	key := generate(t, seal.X25519AES256GCM)
	enrol(t, newRegistry(t, openFile(t, path)), "acme", key)
	wantKeys(t, newRegistry(t, openFile(t, path)), "acme", key, accounts.Current)

	info, err := os.Stat(path)
	check(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("the file's mode is %v", info.Mode())
	}
	entries, err := os.ReadDir(dir)
	check(t, err)
	if len(entries) != 2 || entries[0].Name() != "accounts.json" || entries[1].Name() != "accounts.json.lock" {
		t.Errorf("the folder has %v", entries)
	}

	link := filepath.Join(dir, "link.json")
	check(t, os.Symlink(path, link))
	wantKeys(t, newRegistry(t, openFile(t, link)), "acme", key, accounts.Current)
	check(t, newRegistry(t, openFile(t, link)).Revoke(t.Context(), "acme", key.ID()))
	wantKeys(t, newRegistry(t, openFile(t, path)), "acme")
}

// TestFileLeftover: a process was killed in the middle of a change.
func TestFileLeftover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts.json")
	r := newRegistry(t, openFile(t, path))
	check(t, os.WriteFile(path+".new", []byte(`{"version":1,"acc`), 0o644))
	key := generate(t, seal.X25519AES256GCM)
	enrol(t, r, "acme", key)
	wantKeys(t, newRegistry(t, openFile(t, path)), "acme", key, accounts.Current)
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the leftover: %v", err)
	}
}

// TestFileRefused has files that are not to be read, and must not be overwritten.
func TestFileRefused(t *testing.T) {
	for _, c := range []struct {
		name, content string
		mode          fs.FileMode
		is            error
		want          string
	}{
		{"empty", "", 0o600, accounts.ErrRecord, "not JSON"},
		{"cut off", `{"version":1,"accounts":[`, 0o600, accounts.ErrRecord, "not JSON"},
		{"bytes behind", `{"version":1,"accounts":[]}x`, 0o600, accounts.ErrRecord, "not JSON"},
		{"two values", `{"version":1,"accounts":[]}{}`, 0o600, accounts.ErrRecord, "not JSON"},
		{"no object", `[]`, 0o600, accounts.ErrRecord, "not JSON"},
		{"no version", `{"accounts":[]}`, 0o600, accounts.ErrRecord, "no version"},
		{"a later version", `{"version":2,"people":[]}`, 0o600, accounts.ErrVersion, "version 2, this program knows version 1"},
		{"version 0", `{"version":0,"accounts":[]}`, 0o600, accounts.ErrVersion, "version 0, this program knows version 1"},
		{"an unknown member", `{"version":1,"accounts":[],"x":1}`, 0o600, accounts.ErrRecord, "not JSON of the expected form"},
		{"a member twice", `{"version":1,"accounts":[],"accounts":[]}`, 0o600, accounts.ErrRecord, "two members"},
		{"a null account", `{"version":1,"accounts":[null]}`, 0o600, accounts.ErrRecord, "without a name"},
		{"no name", `{"version":1,"accounts":[{"revision":1,"data":{}}]}`, 0o600, accounts.ErrRecord, "without a name"},
		{"no revision", `{"version":1,"accounts":[{"account":"a","data":{}}]}`, 0o600, accounts.ErrRecord, "without a name, revision"},
		{"no data", `{"version":1,"accounts":[{"account":"a","revision":1}]}`, 0o600, accounts.ErrRecord, "revision or data"},
		{"an account twice", `{"version":1,"accounts":[{"account":"a","revision":1,"data":{}},{"account":"a","revision":2,"data":{}}]}`, 0o600, accounts.ErrRecord, `"a" is there twice`},
		{"writable by the group", `{"version":1,"accounts":[]}`, 0o620, nil, "chmod"},
		{"writable by all", `{"version":1,"accounts":[]}`, 0o602, nil, "chmod"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "accounts.json")
			opened := openFile(t, path) // and spoilt later
			check(t, os.WriteFile(path, []byte(c.content), 0o600))
			check(t, os.Chmod(path, c.mode))
			refused := func(what string, err error) {
				t.Helper()
				if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
					t.Errorf("%s: %v, want %q and the path", what, err, c.want)
				}
				if errors.Is(err, accounts.ErrNotFound) {
					t.Errorf("%s: %v is ErrNotFound", what, err)
				}
			}
			_, err := accounts.OpenFileStore(path)
			refused("OpenFileStore", err)
			_, err = opened.Load(t.Context(), "acme")
			refused("Load", err)
			_, err = opened.List(t.Context(), "", 1)
			refused("List", err)
			refused("Swap", opened.Swap(t.Context(), "acme", 0, accounts.Record{Account: "acme", Revision: 1, Data: []byte(`{}`)}, nil))
			if got, err := os.ReadFile(path); err != nil || string(got) != c.content {
				t.Errorf("the file is now %q, %v", got, err)
			}
		})
	}
}

// TestFileDamaged changes every byte of a file, one after the other: the file is
// refused, or its records are; a key that was not registered is never there.
func TestFileDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts.json")
	store := openFile(t, path)
	key := generate(t, seal.X25519AES256GCM)
	enrol(t, newRegistry(t, store), "acme", key)
	good, err := os.ReadFile(path)
	check(t, err)
	refused := 0
	for i := range good {
		bad := []byte(string(good))
		bad[i] ^= 1
		// In place: another file of the same size.
		check(t, os.Remove(path))
		check(t, os.WriteFile(path, bad, 0o600))
		a, err := newRegistry(t, store).List(t.Context(), "acme")
		if err != nil {
			refused++
			continue
		}
		for _, k := range a.Keys {
			if k.Fingerprint() != key.Public().Fingerprint() {
				t.Fatalf("byte %d: key %v", i, k.Public)
			}
		}
	}
	if refused < len(good)*3/4 {
		t.Errorf("%d of %d changed bytes were refused", refused, len(good))
	}
}

// TestFileKinds has what is no file that OpenFileStore made. None of it is waited for,
// followed or overwritten.
func TestFileKinds(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(path string) error
		want    string
	}{
		{"huge", func(path string) error { return os.Truncate(path, 1<<40) }, "larger than"},
		{"folder", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, "not a regular file"},
		{"pipe", func(path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) }, "not a regular file"},
		{"dangling link", func(path string) error {
			return errors.Join(os.Remove(path), os.Symlink(path+".nothing", path))
		}, "symbolic link"},
		{"lock is a link", func(path string) error {
			return errors.Join(os.Remove(path+".lock"), os.Symlink(path+".elsewhere", path+".lock"))
		}, ".lock"},
	} {
		path := filepath.Join(t.TempDir(), "accounts.json")
		openFile(t, path)
		check(t, c.prepare(path))
		if _, err := accounts.OpenFileStore(path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		for _, suffix := range []string{".nothing", ".elsewhere", ".new"} {
			if _, err := os.Lstat(path + suffix); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: it has made %s: %v", c.name, suffix, err)
			}
		}
	}
}

func TestFileGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts.json")
	store := openFile(t, path)
	check(t, os.Remove(path))
	_, err := store.Load(t.Context(), "acme")
	wantIs(t, "Load", err, fs.ErrNotExist)
	if errors.Is(err, accounts.ErrNotFound) {
		t.Error("a file that is gone has no accounts")
	}
	err = store.Swap(t.Context(), "acme", 0, accounts.Record{Account: "acme", Revision: 1, Data: []byte(`{}`)}, nil)
	wantIs(t, "Swap", err, fs.ErrNotExist)
	if _, err := accounts.OpenFileStore(filepath.Join(t.TempDir(), "no", "folder")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenFileStore in no folder: %v", err)
	}
}

// TestFileNotJSON: the file holds JSON only.
func TestFileNotJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts.json")
	store := openFile(t, path)
	before, err := os.ReadFile(path)
	check(t, err)
	if err := store.Swap(t.Context(), "acme", 0, accounts.Record{Account: "acme", Revision: 1, Data: []byte(`{`)}, nil); err == nil {
		t.Error("Swap took what is no JSON")
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file is now %q, %v", after, err)
	}
}

// TestFileCannotBeWritten: where the new file cannot be written, the old one stays,
// and is read.
func TestFileCannotBeWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts.json")
	r := newRegistry(t, openFile(t, path))
	key := generate(t, seal.X25519AES256GCM)
	enrol(t, r, "acme", key)
	before, err := os.ReadFile(path)
	check(t, err)
	// Whoever runs the tests, root too, cannot remove a folder with something in it.
	check(t, os.MkdirAll(filepath.Join(path+".new", "x"), 0o700))
	if err := r.Revoke(t.Context(), "acme", key.ID()); err == nil {
		t.Fatal("revoked without a file")
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file is now %q, %v", after, err)
	}
	wantKeys(t, r, "acme", key, accounts.Current)
	check(t, os.RemoveAll(path+".new"))
	check(t, r.Revoke(t.Context(), "acme", key.ID()))
	wantKeys(t, r, "acme")
}

// TestFileProcesses has another process, this test binary, hold the lock and
// change the file.
func TestFileProcesses(t *testing.T) {
	const variable = "ACCOUNTS_TEST_CHILD"
	if path := os.Getenv(variable); path != "" { // in the other process
		store := openFile(t, path)
		r := newRegistry(t, store)
		for i := range 20 {
			enrol(t, r, fmt.Sprintf("child %d", i), generate(t, seal.X25519AES256GCM))
		}
		fmt.Println("done")
		return
	}
	path := filepath.Join(t.TempDir(), "accounts.json")
	r := newRegistry(t, openFile(t, path))
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFileProcesses$")
	child.Env = append(os.Environ(), variable+"="+path)
	child.Stderr = os.Stderr
	stdout, err := child.StdoutPipe()
	check(t, err)
	check(t, child.Start())
	for i := range 20 {
		enrol(t, r, fmt.Sprintf("parent %d", i), generate(t, seal.X25519AES256GCM))
	}
	done := false
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		done = done || lines.Text() == "done"
	}
	check(t, child.Wait())
	if !done {
		t.Fatal("the other process did not come to its end")
	}
	n := 0
	for a, err := range r.All(t.Context()) {
		check(t, err)
		if len(a.Keys) != 1 || a.Keys[0].State != accounts.Current {
			t.Errorf("%s has %+v", a.Name, a.Keys)
		}
		n++
	}
	if n != 40 {
		t.Errorf("%d accounts, want 40", n)
	}
}

// TestFileLocked: who waits for the lock gives up with the context, and does not
// hold up who reads.
func TestFileLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "accounts.json")
	store := openFile(t, path)
	unlock := lockFile(t, path+".lock")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	next := accounts.Record{Account: "acme", Revision: 1, Data: []byte(`{}`)}
	wantIs(t, "Swap of a locked file", store.Swap(ctx, "acme", 0, next, nil), context.DeadlineExceeded)
	_, err := store.Load(t.Context(), "acme")
	wantIs(t, "Load", err, accounts.ErrNotFound)
	unlock()
	check(t, store.Swap(t.Context(), "acme", 0, next, nil))
}

// TestFileKilled: a process that changes the file is killed, again and again. What
// it had been told to be stored is there, and all of the file can be read.
func TestFileKilled(t *testing.T) {
	const variable = "ACCOUNTS_TEST_KILLED"
	if path := os.Getenv(variable); path != "" { // in the other process
		r := newRegistry(t, openFile(t, path))
		for i := 0; ; i++ {
			account := fmt.Sprintf("%d %d", os.Getpid(), i)
			check(t, r.SetPolicy(t.Context(), account, sealhttp.Disabled))
			fmt.Println("stored:", account)
		}
	}
	path := filepath.Join(t.TempDir(), "accounts.json")
	openFile(t, path)
	told := make(map[string]bool)
	for range 6 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFileKilled$")
		child.Env = append(os.Environ(), variable+"="+path)
		stdout, err := child.StdoutPipe()
		check(t, err)
		check(t, child.Start())
		left := 1 + rand.N(20) // then it is killed, wherever it is by then
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if account, ok := strings.CutPrefix(lines.Text(), "stored: "); ok {
				told[account] = true
			}
			if left--; left == 0 {
				check(t, child.Process.Kill())
			}
		}
		_ = child.Wait() // it was killed
		there := make(map[string]bool)
		for a, err := range newRegistry(t, openFile(t, path)).All(t.Context()) {
			check(t, err)
			there[a.Name] = true
		}
		for account := range told {
			if !there[account] {
				t.Fatalf("%s was stored, and is not there", account)
			}
		}
		if len(told) == 0 || len(there) > len(told)+6 {
			t.Fatalf("told were %d, there are %d", len(told), len(there))
		}
	}
}

// TestFileKilledAtEveryCall: a process that changes the file is killed before each
// system call of the change. What it leaves is what was there before, or after.
func TestFileKilledAtEveryCall(t *testing.T) {
	const variable = "ACCOUNTS_TEST_KILL_AT"
	if arg := os.Getenv(variable); arg != "" { // in the other process
		var n int64
		var path string
		if _, err := fmt.Sscanf(arg, "%d %s", &n, &path); err != nil {
			t.Fatal(err)
		}
		killer := new(faultydisk.Killer)
		store, err := accounts.OpenFileStoreOn(killer, path)
		check(t, err)
		killer.N = n
		check(t, newRegistry(t, store).SetPolicy(t.Context(), "acme", sealhttp.RequestRequired))
		return
	}
	path := filepath.Join(t.TempDir(), "accounts.json")
	befores, afters := 0, 0
	for n := 1; ; n++ {
		r := newRegistry(t, openFile(t, path))
		check(t, r.SetPolicy(t.Context(), "acme", sealhttp.Disabled))
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFileKilledAtEveryCall$")
		child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", variable, n, path))
		out, err := child.CombinedOutput()
		if err == nil {
			break // it had fewer calls to make
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("call %d: %v\n%s", n, err, out)
		}
		a, err := newRegistry(t, openFile(t, path)).List(t.Context(), "acme")
		check(t, err)
		switch a.Policy {
		case sealhttp.Disabled:
			befores++
		case sealhttp.RequestRequired:
			afters++
		default:
			t.Errorf("killed before call %d: the policy is %v", n, a.Policy)
		}
	}
	t.Logf("killed %d times: %d times the old state, %d times the new one", befores+afters, befores, afters)
	if befores < 8 || afters < 3 {
		t.Errorf("%d times the old state and %d times the new one: the test shows nothing", befores, afters)
	}
}

// TestFileFull: where there is no room for a new file, the old one stays.
func TestFileFull(t *testing.T) {
	const variable = "ACCOUNTS_TEST_FULL"
	if path := os.Getenv(variable); path != "" { // in the other process, whose files cannot grow
		r := newRegistry(t, openFile(t, path))
		before, err := os.ReadFile(path)
		check(t, err)
		signal.Ignore(syscall.SIGXFSZ)
		var limit syscall.Rlimit
		check(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
		full := limit
		full.Cur = 1 // byte a file
		check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full))
		err = r.SetPolicy(t.Context(), "another", sealhttp.Disabled)
		check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)) // the test's own report may be longer
		wantIs(t, "SetPolicy", err, syscall.EFBIG)
		after, err := os.ReadFile(path)
		check(t, err)
		if string(after) != string(before) {
			t.Fatalf("the file is now %q", after)
		}
		if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("the new file: %v", err)
		}
		fmt.Println("done")
		return
	}
	path := filepath.Join(t.TempDir(), "accounts.json")
	check(t, newRegistry(t, openFile(t, path)).SetPolicy(t.Context(), "acme", sealhttp.Disabled))
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFileFull$", "-test.v")
	child.Env = append(os.Environ(), variable+"="+path)
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "done\n") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// lockFile holds a file's lock, as a process that changes the store does.
func lockFile(t *testing.T, path string) (unlock func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	check(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX))
	return func() { check(t, f.Close()) }
}

// FuzzFile: a file is refused, or its records can be listed and changed.
func FuzzFile(f *testing.F) {
	f.Add([]byte(`{"version":1,"accounts":[]}`))
	f.Add([]byte(`{"version":1,"accounts":[{"account":"acme","revision":3,"data":{"version":1,"account":"acme","keys":[]}}]}`))
	f.Add([]byte(`{"version":2}`))
	path := filepath.Join(f.TempDir(), "accounts.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		check(t, os.WriteFile(path, data, 0o600))
		store, err := accounts.OpenFileStore(path)
		if err != nil {
			if !errors.Is(err, accounts.ErrRecord) && !errors.Is(err, accounts.ErrVersion) {
				t.Fatal(err)
			}
			return
		}
		list, err := store.List(t.Context(), "", 1000)
		check(t, err)
		for _, r := range list {
			got, err := store.Load(t.Context(), r.Account)
			if err != nil || got.Revision != r.Revision || !bytes.Equal(got.Data, r.Data) {
				t.Fatalf("listed was %+v, loaded %+v, %v", r, got, err)
			}
		}
	})
}
