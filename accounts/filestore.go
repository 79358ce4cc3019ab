package accounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/sealhttp/sealhttp/internal/durablefile"
)

// fileVersion is the version of the file's format that this package writes and
// reads.
const fileVersion = 1

// maxFile bounds what is read of a file, in bytes.
const maxFile = 1 << 30

// writable are the permission bits that the file must not have.
const writable = 0o022

// FileStore is a [Store] in one file, for one machine: processes on it can share
// the file. Each change writes the whole file anew and syncs it to the disk, which
// is for some thousand accounts; for more, or several machines, use a database. It
// keeps no events: they go to [WithAudit]. It works where flock(2) does: Linux,
// macOS, the BSDs and illumos.
//
// After a crash at any moment the file is what it was before a change or after it.
// It holds nothing secret, but who can write to it can put in a key of their own. It
// is created with mode 0600, and refused if its group or others can write to it.
type FileStore struct {
	path string
	fs   durablefile.FileSystem
	turn chan struct{} // whose goroutine may lock the file: holds one element if none does

	mu      sync.Mutex // for the fields below
	records map[string]Record
	file    durablefile.File // that records was read from; open, so that no other one gets its inode
	info    fs.FileInfo      // of file
}

// fileContent is the file's JSON.
type fileContent struct {
	Version  int           `json:"version"`
	Accounts []*fileRecord `json:"accounts"`
}

type fileRecord struct {
	Account  string          `json:"account"`
	Revision uint64          `json:"revision"`
	Data     json.RawMessage `json:"data"`
}

// OpenFileStore opens the store in a file, and creates the file if there is none.
// A file that is there must be readable as a whole: the errors for others wrap
// [ErrRecord] or [ErrVersion]. Once it is open, a file that is gone is an error, not
// a store without accounts.
//
// Beside the file stands another one, with .lock appended to its name, which is to
// stay there.
func OpenFileStore(path string) (*FileStore, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a change would replace the link
	}
	return openFileStore(durablefile.OS, path)
}

func openFileStore(fsys durablefile.FileSystem, path string) (*FileStore, error) {
	s := &FileStore{path: path, fs: fsys, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	err := s.locked(context.Background(), func() error {
		_, err := s.read()
		if errors.Is(err, fs.ErrNotExist) {
			return s.write(nil, Record{})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Load returns an account's record, or an error that wraps [ErrNotFound].
func (s *FileStore) Load(ctx context.Context, account string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	records, err := s.read()
	if err != nil {
		return Record{}, err
	}
	return find(records, account)
}

// List returns records in the order of their accounts.
func (s *FileStore) List(ctx context.Context, after string, limit int) ([]Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	records, err := s.read()
	if err != nil {
		return nil, err
	}
	return page(records, after, limit), nil
}

// Swap stores next if the stored revision is still old. After an error of the disk
// it is stored or not, but never in part.
func (s *FileStore) Swap(ctx context.Context, account string, old uint64, next Record, _ []Event) error {
	if err := CheckSwap(account, old, next); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.locked(ctx, func() error {
		records, err := s.read()
		if err != nil {
			return err
		}
		if err := checkRevision(records, account, old); err != nil {
			return err
		}
		return s.write(records, next)
	})
}

// locked calls f while no other goroutine and no other process changes the file.
func (s *FileStore) locked(ctx context.Context, f func() error) error {
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	lock, err := s.fs.Lock(ctx, s.path+".lock")
	if err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	defer lock.Close()
	return f()
}

// read returns the file's records, which nobody changes. It reads the file if it
// is another one than it was.
func (s *FileStore) read() (map[string]Record, error) {
	f, info, err := durablefile.Open(s.fs, s.path, writable)
	if err != nil {
		return nil, fmt.Errorf("accounts: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil && os.SameFile(info, s.info) && info.Size() == s.info.Size() &&
		info.ModTime().Equal(s.info.ModTime()) {
		_ = f.Close()
		return s.records, nil
	}
	data, err := durablefile.ReadAll(f, info, maxFile)
	var records map[string]Record
	if err == nil {
		records, err = decodeFile(data)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("accounts: reading %s: %w", s.path, err)
	}
	if s.file != nil {
		_ = s.file.Close()
	}
	s.records, s.file, s.info = records, f, info
	return records, nil
}

func decodeFile(data []byte) (map[string]Record, error) {
	if err := checkVersion(data, fileVersion); err != nil {
		return nil, err
	}
	var content fileContent
	if err := decodeJSON(data, &content); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	records := make(map[string]Record)
	for _, r := range content.Accounts {
		if r == nil || r.Account == "" || r.Revision == 0 || r.Data == nil {
			return nil, fmt.Errorf("%w: an account without a name, revision or data", ErrRecord)
		}
		if _, there := records[r.Account]; there {
			return nil, fmt.Errorf("%w: account %q is there twice", ErrRecord, r.Account)
		}
		records[r.Account] = Record{Account: r.Account, Revision: r.Revision, Data: r.Data}
	}
	return records, nil
}

// write writes records, with next in the place of its account's.
func (s *FileStore) write(records map[string]Record, next Record) error {
	content := fileContent{Version: fileVersion, Accounts: []*fileRecord{}}
	all := maps.Clone(records)
	if next.Account != "" {
		if all == nil {
			all = make(map[string]Record)
		}
		all[next.Account] = next
	}
	for _, account := range slices.Sorted(maps.Keys(all)) {
		r := all[account]
		content.Accounts = append(content.Accounts, &fileRecord{Account: account, Revision: r.Revision, Data: r.Data})
	}
	data, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	if len(data) >= maxFile {
		return fmt.Errorf("accounts: %s would be larger than %d bytes: use a database", s.path, maxFile)
	}
	if err := durablefile.Replace(s.fs, s.path, append(data, '\n')); err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	return nil // the next read sees another file
}
