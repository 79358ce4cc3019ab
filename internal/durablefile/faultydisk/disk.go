// Package faultydisk has what the tests of durable files need: a [Disk] in memory that
// crashes, is full, and loses what was not synced, and a [Killer] that ends the process
// between two system calls on a real one.
package faultydisk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"sync"
	"time"

	"github.com/sealhttp/sealhttp/internal/durablefile"
)

// Disk is a durablefile.FileSystem of one folder. Its fields are set and read while
// nothing uses it.
type Disk struct {
	// Steps are the system calls so far, by name.
	Steps []string
	// FailAt is the step, counted from 1, that returns Err; 0: none. With Crash every
	// later one fails too, and with Done the step takes place before.
	FailAt      int
	Err         error
	Crash, Done bool
	// FailOn makes the next step of that name the one of FailAt.
	FailOn string

	mu      sync.Mutex
	entries map[string]*inode // as processes see them
	lasting map[string]*inode // as they are after a power cut
	locked  map[string]bool
}

type inode struct {
	data    []byte
	lasting []byte
	mode    fs.FileMode
}

// New makes an empty Disk.
func New() *Disk {
	return &Disk{entries: make(map[string]*inode), lasting: make(map[string]*inode), locked: make(map[string]bool)}
}

// Restart returns what is there after a crash. After a power cut, entries of the folder
// and data that were not synced may be lost, each for itself.
func (d *Disk) Restart(loseEntries, loseData bool) *Disk {
	r := New()
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

// Mend ends all faults, and frees the locks of who could not.
func (d *Disk) Mend() {
	d.FailAt, d.FailOn, d.Crash = 0, "", false
	clear(d.locked)
}

// Has reports whether there is a file of that name.
func (d *Disk) Has(name string) bool { return d.entries[name] != nil }

// step runs f as one system call, unless it is to fail.
func (d *Disk) step(name string, f func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Steps = append(d.Steps, name)
	n := len(d.Steps)
	if name == d.FailOn {
		d.FailAt, d.FailOn = n, ""
	}
	switch {
	case d.FailAt == 0 || n < d.FailAt || n > d.FailAt && !d.Crash:
		return f()
	case n == d.FailAt && d.Done:
		_ = f()
	}
	return d.Err
}

// Open opens a file for reading.
func (d *Disk) Open(name string) (durablefile.File, error) {
	var f *openFile
	err := d.step("open", func() error {
		i := d.entries[name]
		if i == nil {
			return fs.ErrNotExist
		}
		f = &openFile{Disk: d, inode: i, rest: i.data}
		return nil
	})
	return f, err
}

// Create makes a file.
func (d *Disk) Create(name string) (durablefile.File, error) {
	var f *openFile
	err := d.step("create", func() error {
		if d.entries[name] != nil {
			return fs.ErrExist
		}
		d.entries[name] = &inode{mode: 0o600}
		f = &openFile{Disk: d, inode: d.entries[name]}
		return nil
	})
	return f, err
}

// Rename renames a file over another one.
func (d *Disk) Rename(from, to string) error {
	return d.step("rename", func() error {
		if d.entries[from] == nil {
			return fs.ErrNotExist
		}
		d.entries[to] = d.entries[from]
		delete(d.entries, from)
		return nil
	})
}

// Remove removes a file.
func (d *Disk) Remove(name string) error {
	return d.step("remove", func() error {
		if d.entries[name] == nil {
			return fs.ErrNotExist
		}
		delete(d.entries, name)
		return nil
	})
}

// OpenDir opens the folder.
func (d *Disk) OpenDir(string) (durablefile.File, error) {
	return &openFile{Disk: d}, d.step("opendir", func() error { return nil })
}

// Lock takes a lock that is free, and fails on one that is not.
func (d *Disk) Lock(_ context.Context, name string) (io.Closer, error) {
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
	*Disk
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
		if len(f.Steps) == f.FailAt {
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
			f.lasting = maps.Clone(f.entries)
			return nil
		}
		f.inode.lasting = bytes.Clone(f.inode.data)
		return nil
	})
}

func (f *openFile) Close() error { return f.step("close", func() error { return nil }) }

func (f *openFile) Stat() (fs.FileInfo, error) {
	return info{f.inode}, f.step("stat", func() error { return nil })
}

type info struct{ inode *inode }

func (info) Name() string        { return "" }
func (i info) Size() int64       { return int64(len(i.inode.data)) }
func (i info) Mode() fs.FileMode { return i.inode.mode }
func (info) ModTime() time.Time  { return time.Time{} }
func (info) IsDir() bool         { return false }
func (info) Sys() any            { return nil }
