//go:build unix

package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/internal/durablefile"
	"github.com/sealhttp/sealhttp/internal/durablefile/faultydisk"
	"github.com/sealhttp/sealhttp/keyring"
)

// ringFile makes a ring in a file, and returns its path.
func ringFile(t *testing.T, kek keyring.AEAD) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ring")
	if _, err := keyring.OpenFile(t.Context(), path, kek, quiet()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenFile(t *testing.T) {
	kek := newKEK(t)
	path := ringFile(t, kek)
	ring, err := keyring.OpenFile(t.Context(), path, kek, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", f.Name(), info.Mode())
		}
	}
	if fmt.Sprint(names) != "[ring ring.lock]" {
		t.Errorf("got files %v", names)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(data, []byte("sealhttp keyring file 1 2\n{\n\t\"format\": \"sealhttp keyring\",\n\t\"version\": 1,\n")) {
		t.Errorf("the file starts with %.80q", data)
	}
}

func TestFileRefused(t *testing.T) {
	kek := newKEK(t)
	header := func(t *testing.T, path, header string) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := bytes.Cut(data, []byte("\n"))
		if err := os.WriteFile(path, append([]byte(header), rest...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	chmod := func(mode os.FileMode) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, path string)
		want    error
		text    string
	}{
		"group may read":  {chmod(0o640), nil, "mode 0640"},
		"group may write": {chmod(0o620), nil, "mode 0620"},
		"all may read":    {chmod(0o604), nil, "mode 0604"},
		"all may write":   {chmod(0o602), nil, "mode 0602"},
		"all may run":     {chmod(0o601), nil, "mode 0601"},
		"symbolic link": {func(t *testing.T, path string) {
			must(t, os.Rename(path, path+".real"))
			must(t, os.Symlink(path+".real", path))
		}, nil, "is a symbolic link"},
		"dangling link": {func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Symlink(path+".nothing", path))
		}, nil, "is a symbolic link"},
		"folder": {func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
		}, nil, "not a regular file"},
		"pipe": {func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, syscall.Mkfifo(path, 0o600))
		}, nil, "not a regular file"},
		"no folder":        {func(t *testing.T, path string) { must(t, os.RemoveAll(filepath.Dir(path))) }, os.ErrNotExist, ""},
		"empty":            {func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) }, keyring.ErrCorrupt, "does not start with"},
		"no header":        {func(t *testing.T, path string) { header(t, path, "") }, keyring.ErrCorrupt, "does not start with"},
		"later version":    {func(t *testing.T, path string) { header(t, path, "sealhttp keyring file 2 1\n") }, keyring.ErrVersion, `version "2", and this program reads version "1"`},
		"revision 0":       {func(t *testing.T, path string) { header(t, path, "sealhttp keyring file 1 0\n") }, keyring.ErrCorrupt, `revision "0"`},
		"revision 01":      {func(t *testing.T, path string) { header(t, path, "sealhttp keyring file 1 01\n") }, keyring.ErrCorrupt, `revision "01"`},
		"revision +1":      {func(t *testing.T, path string) { header(t, path, "sealhttp keyring file 1 +1\n") }, keyring.ErrCorrupt, `revision "+1"`},
		"another revision": {func(t *testing.T, path string) { header(t, path, "sealhttp keyring file 1 2\n") }, keyring.ErrCorrupt, "stored as 2"},
		"huge":             {func(t *testing.T, path string) { must(t, os.Truncate(path, 1<<40)) }, nil, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := ringFile(t, kek)
			running, err := keyring.OpenFile(t.Context(), path, kek, quiet())
			if err != nil {
				t.Fatal(err)
			}
			tc.prepare(t, path)
			_, err = keyring.OpenFile(t.Context(), path, kek)
			if err == nil || !strings.Contains(err.Error(), tc.text) || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v with %q", err, tc.want, tc.text)
			}
			if err := running.Rotate(t.Context()); err == nil {
				t.Error("a change: no error")
			}
			expectOpens(t, running, running.PublicKeys()[0], nil)
		})
	}
}

// Every byte of the file is covered too.
func TestCorruptedFile(t *testing.T) {
	kek := newKEK(t)
	path := ringFile(t, kek)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.OpenFile(t.Context(), path, kek); !errors.Is(err, keyring.ErrCorrupt) && !errors.Is(err, keyring.ErrVersion) && !errors.Is(err, keyring.ErrKEK) {
			t.Fatalf("byte %d: got %v", i, err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, bad) {
			t.Fatalf("byte %d: what was refused was overwritten: %v", i, err)
		}
	}
}

// A file store that cannot be written says why.
func TestUnwritable(t *testing.T) {
	if _, err := keyring.NewFileStore(""); err == nil {
		t.Error("an empty path: no error")
	}
	store, err := keyring.NewFileStore("/proc/no/such/folder/ring")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Swap(t.Context(), 0, oldState, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	// A lock that is a link would be made wherever it leads.
	path := filepath.Join(t.TempDir(), "ring")
	if err := os.Symlink(path+".elsewhere", path+".lock"); err != nil {
		t.Fatal(err)
	}
	if store, err = keyring.NewFileStore(path); err != nil {
		t.Fatal(err)
	}
	if err := store.Swap(t.Context(), 0, oldState, nil); err == nil {
		t.Error("a lock that is a link: no error")
	}
	if _, err := os.Lstat(path + ".elsewhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the link was followed: %v", err)
	}
}

// Who waits for the lock gives up with its context.
func TestLockWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ring")
	lock, err := durablefile.OS.Lock(t.Context(), path+".lock")
	if err != nil {
		t.Fatal(err)
	}
	store, err := keyring.NewFileStore(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := store.Swap(ctx, 0, oldState, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want context.DeadlineExceeded", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := store.Swap(t.Context(), 0, oldState, nil); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(10 * time.Millisecond)
	if _, err := store.Load(t.Context()); !errors.Is(err, keyring.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound: the lock is held", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if got := load(t, store); got.Revision != 1 {
		t.Errorf("got revision %d", got.Revision)
	}
}

const killVariable = "KEYRING_TEST_KILL"

// TestKill has processes that are killed, by SIGKILL, before each system call of a
// change. What they leave on a real disk opens, and is the old state or the new one.
func TestKill(t *testing.T) {
	if arg := os.Getenv(killVariable); arg != "" {
		killed(t, arg)
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "ring")
	kekPath := filepath.Join(dir, "kek")
	kek, err := keyring.LocalKeyFile(kekPath)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.OpenFile(t.Context(), path, kek, quiet())
	if err != nil {
		t.Fatal(err)
	}
	olds, news := 0, 0
	for n := 1; ; n++ {
		before := ring.Status()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestKill$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%s:%s", killVariable, n, path, kekPath))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err == nil {
			break // it had fewer calls to make
		}
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("call %d: %v\n%s", n, err, out)
		}
		if ring, err = keyring.OpenFile(t.Context(), path, kek, quiet()); err != nil {
			t.Fatalf("killed before call %d: %v", n, err)
		}
		after := ring.Status()
		switch after.Revision {
		case before.Revision:
			olds++
		case before.Revision + 1:
			news++
			if len(after.Keys) != len(before.Keys)+1 {
				t.Errorf("killed before call %d: got %d keys after %d", n, len(after.Keys), len(before.Keys))
			}
		default:
			t.Errorf("killed before call %d: got revision %d after %d", n, after.Revision, before.Revision)
		}
		expectOpens(t, ring, ring.PublicKeys()[0], nil)
		if err := ring.Revoke(t.Context(), ring.PublicKeys()[0].ID()); err != nil {
			t.Fatalf("killed before call %d: the next change: %v", n, err)
		}
	}
	t.Logf("killed %d times: %d times the old state, %d times the new one", olds+news, olds, news)
	if olds < 10 || news < 3 {
		t.Errorf("%d times the old state and %d times the new one: the test shows nothing", olds, news)
	}
}

// killed is what the killed process does: it opens a ring, and revokes its primary.
func killed(t *testing.T, arg string) {
	fields := strings.Split(arg, ":")
	n, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	kek, err := keyring.LocalKeyFile(fields[2])
	if err != nil {
		t.Fatal(err)
	}
	fsys := new(faultydisk.Killer)
	ring, err := keyring.Open(t.Context(), keyring.NewFileStoreOn(fsys, fields[1]), kek, quiet())
	if err != nil {
		t.Fatal(err)
	}
	fsys.N = n
	if err := ring.Revoke(t.Context(), ring.PublicKeys()[0].ID()); err != nil {
		t.Fatal(err)
	}
}
