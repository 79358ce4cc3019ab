package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// loadState makes what the state file holds the newest key set. It may have expired;
// its revision counts all the same.
func (s *Source) loadState() error {
	file, err := os.Open(s.stateFile)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = os.Stat(filepath.Dir(s.stateFile)) // without its folder it can never be written
		if err == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("publish: state file: %w", err)
	}
	defer file.Close()
	document, err := io.ReadAll(io.LimitReader(file, MaxSize+1))
	if err != nil {
		return fmt.Errorf("publish: state file: %w", err)
	}
	set, err := s.trust.read(document)
	if err != nil {
		s.log().LogAttrs(context.Background(), slog.LevelWarn, "publish: the state file counts as none",
			slog.String("file", s.stateFile), slog.Any("error", err))
		return nil
	}
	// Of its whole validity: a program that starts every minute must fetch some time.
	age := set.Expires.Sub(set.Issued)
	s.newest.Store(&held{set: set, document: document, due: set.Issued.Add(between(age/4, age/2))})
	return nil
}

// saveState replaces the state file. What fails is logged: the keys are as good.
func (s *Source) saveState(h *held) {
	if err := replaceFile(s.stateFile, h.document); err != nil {
		s.log().LogAttrs(context.Background(), slog.LevelError, "publish: the state file could not be written",
			slog.String("file", s.stateFile), slog.Any("error", err))
	}
}

// replaceFile leaves the old content or the new one, whatever happens.
func replaceFile(path string, content []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
