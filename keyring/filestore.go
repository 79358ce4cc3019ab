package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sealhttp/sealhttp/internal/durablefile"
)

// FileStore is a [Store] in one file, for the processes of one machine. It works
// where flock(2) does: Linux, macOS, the BSDs and illumos; elsewhere Swap fails.
//
// Whatever happens, the file holds the state from before a Swap or the one from
// after it: a new file is written, synced to the disk, and renamed over the old
// one. Next to the file there are path.lock, an empty file that carries an advisory
// lock during Swap, and during Swap or after a crash path.new. All three are made
// with mode 0600, and none may be a symbolic link; that the file can be read or
// written by others is an error. The folder must exist, on a local disk.
//
// Audit events are not kept: what an event and a rename do together, a file cannot
// do at once. [WithAudit] gets them, and the state itself remembers the times of
// every key.
type FileStore struct {
	path string
	fs   durablefile.FileSystem
}

// maxFile bounds what is read of a file, in bytes.
const maxFile = 16 << 20

// secret are the permission bits that a file with a secret in it must not have.
const secret = 0o077

// NewFileStore makes a FileStore. The file is looked at when it is used, and made
// by the first Swap.
func NewFileStore(path string) (*FileStore, error) {
	if path == "" {
		return nil, errors.New("keyring: file store: the path is empty")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("keyring: file store: %w", err)
	}
	return &FileStore{path: path, fs: durablefile.OS}, nil
}

// fileHeader is the first line of a file, in front of the data: the format's
// version, and the revision.
const (
	fileHeader  = "sealhttp keyring file "
	fileVersion = "1"
)

// Load reads the file.
func (s *FileStore) Load(ctx context.Context) (State, error) {
	state, err := s.load(ctx)
	if err != nil {
		return State{}, fmt.Errorf("keyring: file store: %w", err)
	}
	return state, nil
}

func (s *FileStore) load(ctx context.Context) (State, error) {
	if err := ctx.Err(); err != nil {
		return State{}, err
	}
	data, err := durablefile.Read(s.fs, s.path, secret, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, fmt.Errorf("%w: %s does not exist", ErrNotFound, s.path)
	}
	if err != nil {
		return State{}, err
	}
	return parseFile(s.path, data)
}

func parseFile(path string, data []byte) (State, error) {
	header, rest, ok := bytes.Cut(data, []byte("\n"))
	fields, isOurs := strings.CutPrefix(string(header), fileHeader)
	version, number, two := strings.Cut(fields, " ")
	switch {
	case !ok || !isOurs || !two:
		return State{}, fmt.Errorf("%s: %w: it does not start with %q", path, ErrCorrupt, fileHeader)
	case version != fileVersion:
		return State{}, fmt.Errorf("%s: %w: it is version %q, and this program reads version %q", path, ErrVersion, version, fileVersion)
	}
	revision, err := strconv.ParseUint(number, 10, 64)
	if err != nil || revision == 0 || strconv.FormatUint(revision, 10) != number {
		return State{}, fmt.Errorf("%s: %w: revision %q", path, ErrCorrupt, number)
	}
	return State{Revision: revision, Data: rest}, nil
}

// Swap replaces the file, if its revision is old. It does not keep the events.
func (s *FileStore) Swap(ctx context.Context, old uint64, next State, _ []Event) error {
	if err := s.swap(ctx, old, next); err != nil {
		return fmt.Errorf("keyring: file store: %w", err)
	}
	return nil
}

func (s *FileStore) swap(ctx context.Context, old uint64, next State) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	lock, err := s.fs.Lock(ctx, s.path+".lock")
	if err != nil {
		return err
	}
	defer lock.Close()
	stored, err := s.load(ctx)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if stored.Revision != old {
		return fmt.Errorf("%w: %d, not %d", ErrConflict, stored.Revision, old)
	}
	header := fileHeader + fileVersion + " " + strconv.FormatUint(next.Revision, 10) + "\n"
	return durablefile.Replace(s.fs, s.path, append([]byte(header), next.Data...))
}
