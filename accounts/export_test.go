package accounts

import (
	"github.com/sealhttp/sealhttp/internal/durablefile"
)

// What tests outside of the package need of its inside.

// OpenFileStoreOn opens a FileStore on another file system.
func OpenFileStoreOn(fsys durablefile.FileSystem, path string) (*FileStore, error) {
	return openFileStore(fsys, path)
}
