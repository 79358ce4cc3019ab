//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package durablefile

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

const openFlags = 0

// tryLock fails: without an advisory lock, and without permission bits that mean
// something, a file is not safe.
func tryLock(*os.File) error {
	return fmt.Errorf("a lock on a file of %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func isSymlinkError(error) bool { return false }
