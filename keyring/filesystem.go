package keyring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// fileSystem is what a FileStore needs of one. Each method but Lock is one system
// call, so that tests can stop between any two of them.
type fileSystem interface {
	// Open opens a regular file for reading. A symbolic link is an error.
	Open(name string) (file, error)
	// Create makes a file, readable and writable by its owner only. That it is there
	// already is an error.
	Create(name string) (file, error)
	Rename(from, to string) error
	Remove(name string) error
	// OpenDir opens a folder, to Sync it.
	OpenDir(name string) (file, error)
	// Lock makes the file if it is not there, and waits until no other process, nor
	// another caller in this one, holds a lock on it. Closing it frees the lock.
	Lock(ctx context.Context, name string) (io.Closer, error)
}

type file interface {
	io.ReadWriteCloser
	Stat() (fs.FileInfo, error)
	Sync() error
}

// osFileSystem is the operating system's.
type osFileSystem struct{}

func (osFileSystem) Open(name string) (file, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFileSystem) Create(name string) (file, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFileSystem) Rename(from, to string) error { return os.Rename(from, to) }

func (osFileSystem) Remove(name string) error { return os.Remove(name) }

func (osFileSystem) OpenDir(name string) (file, error) {
	f, err := os.Open(name)
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

// readPrivate reads a file that nobody but its owner may read or write.
func readPrivate(fsys fileSystem, name string, limit int64) (data []byte, err error) {
	f, err := fsys.Open(name)
	if err != nil {
		if isSymlinkError(err) {
			return nil, fmt.Errorf("%s is a symbolic link: give the path of the file itself", name)
		}
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", name)
	case mode.Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s can be read or written by others (mode %04o): chmod 600, and consider who may have read it", name, mode.Perm())
	}
	if info.Size() <= limit {
		data, err = io.ReadAll(io.LimitReader(f, limit+1))
		if err != nil {
			return nil, err
		}
		if int64(len(data)) <= limit {
			return data, nil
		}
	}
	return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
}

// writePrivate makes a new file with data in it that is on the disk when it returns.
func writePrivate(fsys fileSystem, name string, data []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes what happened to a folder's entries last.
func syncDir(fsys fileSystem, name string) error {
	d, err := fsys.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
