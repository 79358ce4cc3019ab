//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package durablefile

import (
	"errors"
	"os"
	"syscall"
)

// openFlags are for opening a file that somebody else may have put there: neither
// follow a link, nor wait for the other end of a pipe.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// tryLock locks a file, or returns errLocked.
func tryLock(f *os.File) error {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
		case nil:
			return nil
		case syscall.EINTR:
		case syscall.EWOULDBLOCK:
			return errLocked
		default:
			return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
	}
}

// isSymlinkError reports whether a file was not opened because it is a symbolic
// link: ELOOP, and EMLINK on FreeBSD.
func isSymlinkError(err error) bool {
	return errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EMLINK)
}
