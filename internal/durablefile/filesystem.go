package durablefile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// FileSystem is what is needed of one. Each method but Lock is one system call, so that
// tests can stop between any two of them: package faultydisk does.
type FileSystem interface {
	// Open opens a regular file for reading. A symbolic link is an error.
	Open(name string) (File, error)
	// Create makes a file, readable and writable by its owner only. That it is there
	// already is an error.
	Create(name string) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// OpenDir opens a folder, to Sync it.
	OpenDir(name string) (File, error)
	// Lock makes the file if it is not there, and waits until no other process, nor
	// another caller in this one, holds a lock on it. Closing it frees the lock.
	Lock(ctx context.Context, name string) (io.Closer, error)
}

// File is an open file or folder.
type File interface {
	io.ReadWriteCloser
	Stat() (fs.FileInfo, error)
	Sync() error
}

// OS is the operating system's file system.
var OS FileSystem = osFileSystem{}

type osFileSystem struct{}

func (osFileSystem) Open(name string) (File, error) {
	return opened(os.OpenFile(name, os.O_RDONLY|openFlags, 0))
}

func (osFileSystem) Create(name string) (File, error) {
	return opened(os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600))
}

func (osFileSystem) Rename(from, to string) error { return os.Rename(from, to) }

func (osFileSystem) Remove(name string) error { return os.Remove(name) }

func (osFileSystem) OpenDir(name string) (File, error) { return opened(os.Open(name)) }

// opened keeps a nil *os.File from becoming a File that is not nil.
func opened(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Lock tries and sleeps, since waiting for a file lock cannot be interrupted.
func (osFileSystem) Lock(ctx context.Context, name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|openFlags, 0o600)
	if err != nil {
		return nil, err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if err = tryLock(f); !errors.Is(err, errLocked) {
			break
		}
		select {
		case <-ctx.Done():
			err = fmt.Errorf("waiting for the lock on %s: %w", name, ctx.Err())
		case <-time.After(pause):
			continue
		}
		break
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

var errLocked = errors.New("the file is locked")
