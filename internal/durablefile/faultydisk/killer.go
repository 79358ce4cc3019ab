//go:build unix

package faultydisk

import (
	"context"
	"io"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/sealhttp/sealhttp/internal/durablefile"
)

// Killer is the real file system. It kills this process, with SIGKILL, before its Nth
// call, counted from the first Lock after N was set.
type Killer struct {
	N    int64 // 0: not yet
	left atomic.Int64
}

func (k *Killer) step() {
	if k.left.Load() == 0 {
		return
	}
	if k.left.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// Open opens a file for reading.
func (k *Killer) Open(name string) (durablefile.File, error) {
	k.step()
	return k.opened(durablefile.OS.Open(name))
}

// Create makes a file.
func (k *Killer) Create(name string) (durablefile.File, error) {
	k.step()
	return k.opened(durablefile.OS.Create(name))
}

// Rename renames a file over another one.
func (k *Killer) Rename(from, to string) error { k.step(); return durablefile.OS.Rename(from, to) }

// Remove removes a file.
func (k *Killer) Remove(name string) error { k.step(); return durablefile.OS.Remove(name) }

// OpenDir opens a folder.
func (k *Killer) OpenDir(name string) (durablefile.File, error) {
	k.step()
	return k.opened(durablefile.OS.OpenDir(name))
}

// Lock begins to count.
func (k *Killer) Lock(ctx context.Context, name string) (io.Closer, error) {
	k.left.Store(k.N)
	k.step()
	lock, err := durablefile.OS.Lock(ctx, name)
	return closeFunc(func() error { k.step(); return lock.Close() }), err
}

func (k *Killer) opened(f durablefile.File, err error) (durablefile.File, error) {
	if err != nil {
		return nil, err
	}
	return killerFile{f, k}, nil
}

type killerFile struct {
	durablefile.File
	k *Killer
}

func (f killerFile) Read(b []byte) (int, error)  { f.k.step(); return f.File.Read(b) }
func (f killerFile) Write(b []byte) (int, error) { f.k.step(); return f.File.Write(b) }
func (f killerFile) Sync() error                 { f.k.step(); return f.File.Sync() }
func (f killerFile) Close() error                { f.k.step(); return f.File.Close() }
