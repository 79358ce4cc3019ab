//go:build unix

package keyring_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sealhttp/sealhttp/keyring"
)

func TestLocalKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	keks := localKeys(t, path, 3)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("left over: %v", left)
	}
	ciphertext, err := keks[0].Encrypt([]byte("secret"), []byte("data"))
	if err != nil || bytes.Contains(ciphertext, []byte("secret")) {
		t.Fatalf("got %q, %v", ciphertext, err)
	}
	again, err := keks[0].Encrypt([]byte("secret"), []byte("data"))
	if err != nil || bytes.Equal(again, ciphertext) {
		t.Errorf("encrypted twice alike, %v", err)
	}
	for _, kek := range keks {
		if plaintext, err := kek.Decrypt(ciphertext, []byte("data")); err != nil || string(plaintext) != "secret" {
			t.Errorf("got %q, %v", plaintext, err)
		}
	}
	for name, tc := range map[string]struct{ ciphertext, data []byte }{
		"other data": {ciphertext, []byte("date")},
		"no data":    {ciphertext, nil},
		"cut":        {ciphertext[:len(ciphertext)-1], []byte("data")},
		"empty":      {nil, []byte("data")},
		"changed":    {append([]byte{ciphertext[0] ^ 1}, ciphertext[1:]...), []byte("data")},
	} {
		if _, err := keks[0].Decrypt(tc.ciphertext, tc.data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// localKeys opens a local key file several times at once.
func localKeys(t *testing.T, path string, n int) []keyring.AEAD {
	t.Helper()
	keks := make([]keyring.AEAD, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range keks {
		wg.Go(func() {
			<-start
			var err error
			if keks[i], err = keyring.LocalKeyFile(path); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return keks
}

// Of those that make the file at once, all have the same key.
func TestLocalKeyFileRace(t *testing.T) {
	dir := t.TempDir()
	for n := range 40 {
		keks := localKeys(t, filepath.Join(dir, strconv.Itoa(n)), 4)
		ciphertext, err := keks[0].Encrypt([]byte("secret"), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, kek := range keks {
			if _, err := kek.Decrypt(ciphertext, nil); err != nil {
				t.Fatalf("two have different keys: %v", err)
			}
		}
	}
}

func TestLocalKeyFileRefuses(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, tc := range map[string]struct {
		content string
		mode    os.FileMode
		text    string
	}{
		"as it is made":   {"sealhttp local key 1 " + key + "\n", 0o600, ""},
		"read-only":       {"sealhttp local key 1 " + key + "\n", 0o400, ""},
		"group may read":  {"sealhttp local key 1 " + key + "\n", 0o640, "mode 0640"},
		"all may read":    {"sealhttp local key 1 " + key + "\n", 0o604, "mode 0604"},
		"empty":           {"", 0o600, "does not start with"},
		"no header":       {key + "\n", 0o600, "does not start with"},
		"another version": {"sealhttp local key 2 " + key + "\n", 0o600, "does not start with"},
		"short":           {"sealhttp local key 1 " + key[:40] + "\n", 0o600, "no key of 32 bytes"},
		"no Base64":       {"sealhttp local key 1 " + strings.Repeat("!", 44) + "\n", 0o600, "no key of 32 bytes"},
		"two keys":        {"sealhttp local key 1 " + key + "\n" + key + "\n", 0o600, "no key of 32 bytes"},
		"large":           {strings.Repeat("x", 2000), 0o600, "larger than"},
	} {
		path := filepath.Join(t.TempDir(), "kek")
		if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tc.mode); err != nil {
			t.Fatal(err)
		}
		_, err := keyring.LocalKeyFile(path)
		if tc.text == "" && err != nil || tc.text != "" && (err == nil || !strings.Contains(err.Error(), tc.text)) {
			t.Errorf("%s: got %v, want %q", name, err, tc.text)
		}
		if err != nil && strings.Contains(err.Error(), key[:20]) {
			t.Errorf("%s: the error holds the key: %v", name, err)
		}
		if after, _ := os.ReadFile(path); string(after) != tc.content {
			t.Errorf("%s: the file was changed", name)
		}
	}
	path := filepath.Join(t.TempDir(), "kek")
	if err := os.Symlink(path+".elsewhere", path); err != nil {
		t.Fatal(err)
	}
	if _, err := keyring.LocalKeyFile(path); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a link: got %v", err)
	}
	if _, err := keyring.LocalKeyFile(filepath.Join(t.TempDir(), "no", "kek")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: got %v", err)
	}
}

func TestKEKs(t *testing.T) {
	a, b, c := newKMS(t), newKMS(t), newKMS(t)
	data := []byte("data")
	old, err := a.Encrypt([]byte("of a"), data)
	if err != nil {
		t.Fatal(err)
	}
	both := keyring.KEKs(b, c, a)
	fresh, err := both.Encrypt([]byte("of b"), data)
	if err != nil {
		t.Fatal(err)
	}
	for want, ciphertext := range map[string][]byte{"of a": old, "of b": fresh} {
		if got, err := both.Decrypt(ciphertext, data); err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		if _, err := both.Decrypt(ciphertext, nil); !errors.Is(err, keyring.ErrKEK) {
			t.Errorf("other data: got %v, want ErrKEK", err)
		}
	}
	if _, err := a.Decrypt(fresh, data); err == nil {
		t.Error("it was not encrypted with the first")
	}
	b.fail(errKMS) // the current one is down: what the old one opens, opens
	if got, err := both.Decrypt(old, data); err != nil || string(got) != "of a" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := both.Decrypt(fresh, data); !errors.Is(err, errKMS) {
		t.Errorf("got %v, want the KMS's error", err)
	}
	if _, err := both.Encrypt(nil, data); !errors.Is(err, errKMS) {
		t.Errorf("got %v, want the KMS's error", err)
	}
}
