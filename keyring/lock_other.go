//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package keyring

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
	return fmt.Errorf("a file store on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func isSymlinkError(error) bool { return false }
