//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package accounts

import (
	"errors"
	"os"
)

// Where files cannot be locked so, two processes could lose each other's changes,
// a revocation say.
var errNoLock = errors.New("there is no file store on this system: use a database")

func tryLock(*os.File) (bool, error) { return false, errNoLock }

func syncFolder(string) error { return errNoLock }
