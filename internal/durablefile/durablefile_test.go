//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package durablefile_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/internal/durablefile"
	"github.com/sealhttp/sealhttp/internal/durablefile/faultydisk"
)

const (
	secret   = 0o077
	writable = 0o022
	limit    = 10
)

func TestRead(t *testing.T) {
	write := func(content string, mode fs.FileMode) func(string) error {
		return func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode))
		}
	}
	for _, tc := range []struct {
		name      string
		prepare   func(path string) error
		forbidden fs.FileMode
		text      string // of the error; none: "content" is read
	}{
		{"secret", write("content", 0o600), secret, ""},
		{"secret and read-only", write("content", 0o400), secret, ""},
		{"secret, for the group", write("content", 0o640), secret, "mode 0640): chmod 600"},
		{"secret, for others", write("content", 0o604), secret, "mode 0604): chmod 600"},
		{"public", write("content", 0o644), writable, ""},
		{"public, written by the group", write("content", 0o664), writable, "mode 0664): chmod go-w"},
		{"public, written by others", write("content", 0o646), writable, "mode 0646): chmod go-w"},
		{"too long", write("content, and more", 0o600), secret, "larger than 10 bytes"},
		{"much too long", func(path string) error {
			return errors.Join(write("", 0o600)(path), os.Truncate(path, 1<<40))
		}, secret, "larger than 10 bytes"},
		{"a link", func(path string) error {
			return errors.Join(write("content", 0o600)(path+".real"), os.Symlink(path+".real", path))
		}, secret, "is a symbolic link"},
		{"a folder", func(path string) error { return os.Mkdir(path, 0o700) }, secret, "not a regular file"},
		{"a pipe", func(path string) error { return syscall.Mkfifo(path, 0o600) }, secret, "not a regular file"},
		{"nothing", func(string) error { return nil }, secret, "no such file"},
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := tc.prepare(path); err != nil {
			t.Fatal(err)
		}
		data, err := durablefile.Read(durablefile.OS, path, tc.forbidden, limit)
		switch {
		case tc.text == "" && (err != nil || string(data) != "content"):
			t.Errorf("%s: got %q, %v", tc.name, data, err)
		case tc.text != "" && (err == nil || !strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), path)):
			t.Errorf("%s: got %v, want %q and the path", tc.name, err, tc.text)
		}
	}
}

// A file that grows between its Stat and its reading is not read without end.
func TestReadAllOfGrownFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, info, err := durablefile.Open(durablefile.OS, path, secret)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.WriteFile(path, make([]byte, limit+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := durablefile.ReadAll(f, info, limit); err == nil {
		t.Error("no error")
	}
}

// Whatever is there before, Replace leaves the new content, with mode 0600, and nothing
// else.
func TestReplace(t *testing.T) {
	for name, prepare := range map[string]func(path string) error{
		"nothing":    func(string) error { return nil },
		"a file":     func(path string) error { return os.WriteFile(path, []byte("old"), 0o644) },
		"a leftover": func(path string) error { return os.WriteFile(path+".new", []byte("ne"), 0o400) },
		"a link in the leftover's place": func(path string) error {
			return os.Symlink(path+".elsewhere", path+".new")
		},
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := prepare(path); err != nil {
			t.Fatal(err)
		}
		if err := durablefile.Replace(durablefile.OS, path, []byte("new")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if data, err := durablefile.Read(durablefile.OS, path, secret, limit); err != nil || string(data) != "new" {
			t.Errorf("%s: got %q, %v", name, data, err)
		}
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
			t.Errorf("%s: left are %v, %v", name, left, err)
		}
	}
}

// A crash or an error at any system call leaves the old content or the new one, also
// when the disk loses what was not synced.
func TestReplaceFails(t *testing.T) {
	const path = "/data/file"
	fault := errors.New("the disk is broken")
	steps := []string{"remove", "create", "write", "sync", "close", "rename", "opendir", "sync", "close"}
	for at := 1; at <= len(steps); at++ {
		for _, crash := range []bool{false, true} {
			for _, done := range []bool{false, true} {
				for _, lose := range []bool{false, true} {
					d := faultydisk.New()
					if err := durablefile.Replace(d, path, []byte("old")); err != nil {
						t.Fatal(err)
					}
					d.Steps = nil
					d.FailAt, d.Err, d.Crash, d.Done = at, fault, crash, done
					err := durablefile.Replace(d, path, []byte("new"))
					if !errors.Is(err, fault) {
						t.Errorf("%s: got %v, want the disk's error", steps[at-1], err)
					}
					if got := d.Steps[at-1]; got != steps[at-1] {
						t.Fatalf("system call %d is %s, want %s", at, got, steps[at-1])
					}
					after := d.Restart(lose, lose)
					data, err := durablefile.Read(after, path, secret, limit)
					if err != nil || string(data) != "old" && string(data) != "new" {
						t.Errorf("%s: got %q, %v", steps[at-1], data, err)
					}
					if !crash && d.Has(path+".new") {
						t.Errorf("%s: the unfinished file is left", steps[at-1])
					}
				}
			}
		}
	}
}

// Of those that make a file at once, one wins, and all see what it has written.
func TestMake(t *testing.T) {
	dir := t.TempDir()
	for round := range 20 {
		path := filepath.Join(dir, strconv.Itoa(round))
		var wg sync.WaitGroup
		var mu sync.Mutex
		var winner string
		for _, content := range []string{"a", "b", "c"} {
			wg.Go(func() {
				err := durablefile.Make(path, []byte(content))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil && winner == "":
					winner = content
				case !errors.Is(err, fs.ErrExist):
					t.Errorf("after %q: got %v, want ErrExist", winner, err)
				}
			})
		}
		wg.Wait()
		if data, err := durablefile.Read(durablefile.OS, path, secret, limit); err != nil || string(data) != winner {
			t.Errorf("got %q, %v, want %q", data, err, winner)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 20 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// The lock is one for all callers, in one process too, and who waits for it gives up
// with the context.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.lock")
	var inside, n atomic.Int64 // a file lock means nothing to the race detector
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				lock, err := durablefile.OS.Lock(t.Context(), path)
				if err != nil {
					t.Error(err)
					return
				}
				if others := inside.Add(1) - 1; others != 0 {
					t.Errorf("%d others hold the lock", others)
				}
				n.Add(1)
				inside.Add(-1)
				if err := lock.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n.Load() != 20 {
		t.Errorf("the lock was held %d times, want 20", n.Load())
	}
	lock, err := durablefile.OS.Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := durablefile.OS.Lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want context.DeadlineExceeded", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path+".elsewhere", path); err != nil {
		t.Fatal(err)
	}
	if _, err := durablefile.OS.Lock(t.Context(), path); err == nil {
		t.Error("a lock that is a link: no error")
	}
}
