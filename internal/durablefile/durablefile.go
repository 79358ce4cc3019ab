// Package durablefile keeps a file's content through crashes, full disks and power
// cuts, for several processes of one machine: after whatever happens the file holds
// the content from before a change or the one from after it. It works where flock(2)
// does: Linux, macOS, the BSDs and illumos; elsewhere a lock fails.
//
// A change is a [FileSystem]'s Lock, a reading ([Open], [ReadAll]), and [Replace]. Next
// to a file there are path.lock, an empty file that carries the lock, and during a
// change or after a crash path.new.
package durablefile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Open opens a file for reading, and returns what it is. That it is a symbolic link, or
// no regular file, is an error, and so is one of the forbidden permission bits: 0o077
// for what is secret, 0o022 for what may be read.
func Open(fsys FileSystem, name string, forbidden fs.FileMode) (File, fs.FileInfo, error) {
	f, err := fsys.Open(name)
	if err != nil {
		if isSymlinkError(err) {
			return nil, nil, fmt.Errorf("%s is a symbolic link: give the path of the file itself", name)
		}
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = check(name, info.Mode(), forbidden)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

func check(name string, mode, forbidden fs.FileMode) error {
	switch {
	case !mode.IsRegular():
		return fmt.Errorf("%s is not a regular file", name)
	case mode.Perm()&forbidden == 0:
		return nil
	case forbidden&0o044 == 0:
		return fmt.Errorf("%s can be written by its group or by others (mode %04o): chmod go-w, and consider who may have written it", name, mode.Perm())
	}
	return fmt.Errorf("%s can be read or written by its group or by others (mode %04o): chmod 600, and consider who may have read it", name, mode.Perm())
}

// ReadAll returns what is in a file that Open has opened. More than limit bytes are an
// error, and are not read.
func ReadAll(f File, info fs.FileInfo, limit int64) ([]byte, error) {
	if info.Size() <= limit {
		data, err := io.ReadAll(io.LimitReader(f, limit+1))
		if err != nil {
			return nil, err
		}
		if int64(len(data)) <= limit {
			return data, nil
		}
	}
	return nil, fmt.Errorf("it is larger than %d bytes", limit)
}

// Read is Open, ReadAll and Close.
func Read(fsys FileSystem, name string, forbidden fs.FileMode, limit int64) ([]byte, error) {
	f, info, err := Open(fsys, name, forbidden)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := ReadAll(f, info, limit)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return data, nil
}

// Replace makes data the content of a file, whether there is one or not: a new file, of
// mode 0600, is written, synced to the disk, and renamed over the old one. After an
// error the file has its old content or the new one; after none the new one is there
// to stay. It is to be called under the lock, and the folder must exist.
func Replace(fsys FileSystem, name string, data []byte) error {
	fresh := name + ".new"
	if err := fsys.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // left by a crash
	}
	err := write(fsys, fresh, data)
	if err == nil {
		err = fsys.Rename(fresh, name)
	}
	if err != nil {
		_ = fsys.Remove(fresh)
		return err
	}
	return syncDir(fsys, filepath.Dir(name))
}

// write makes a new file with data in it that is on the disk when it returns.
func write(fsys FileSystem, name string, data []byte) error {
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
func syncDir(fsys FileSystem, name string) error {
	d, err := fsys.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Make makes a file, of mode 0600, at once with all that is in it, unless there is one:
// of several processes that do so the first wins, and the others' errors wrap
// fs.ErrExist. It needs no lock.
func Make(name string, data []byte) error {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, filepath.Base(name)+".*.new") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), name); err != nil { // a Rename would replace another's
		return err
	}
	return syncDir(OS, dir)
}
