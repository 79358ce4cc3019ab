//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package accounts

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks a file for as long as it is open. It reports false if another
// process, or another opening of the file, has it locked.
func tryLock(f *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, err
		}
	}
}

// syncFolder makes a renaming last.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
