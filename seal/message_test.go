package seal_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

var plaintextSizes = []int{0, 1, 16, 1000, 70000}

// canary fills what a call must leave alone.
const canary = 0xc5

func canaries(n int) []byte { return bytes.Repeat([]byte{canary}, n) }

func TestMessageLayout(t *testing.T) {
	everyKey(t, func(t *testing.T, sp spec, f form, key *seal.PrivateKey) {
		public := key.Public()
		if got, want := public.HeaderLen(), f.prefix+sp.enc; got != want {
			t.Errorf("HeaderLen %d, want %d", got, want)
		}
		if got, want := public.Overhead(), f.prefix+sp.enc+16; got != want {
			t.Errorf("Overhead %d, want %d", got, want)
		}
		for _, n := range plaintextSizes {
			message := sealTo(t, public, pattern(n), nil)
			if len(message) != n+public.Overhead() {
				t.Errorf("%d bytes make %d", n, len(message))
			}
			if f.prefix > 0 && !bytes.HasPrefix(message, prefixOf(key.ID())) {
				t.Errorf("the message starts with %x, want 01 and id %08x", message[:5], key.ID())
			}
			if bytes.Equal(message, sealTo(t, public, pattern(n), nil)) {
				t.Error("two messages are the same")
			}
		}
	})
}

func TestInfo(t *testing.T) {
	everyKey(t, func(t *testing.T, _ spec, _ form, key *seal.PrivateKey) {
		set := keySet(t, key)
		long := pattern(100_000)
		for _, tt := range []struct {
			name           string
			sealed, opened []byte
			ok             bool
		}{
			{"nil, nil", nil, nil, true},
			{"nil, empty", nil, []byte{}, true},
			{"empty, nil", []byte{}, nil, true},
			{"same", []byte("a"), []byte("a"), true},
			{"long", long, long, true},
			{"other", []byte("a"), []byte("b"), false},
			{"longer", []byte("a"), []byte("a\x00"), false},
			{"none", []byte("a"), nil, false},
			{"some", nil, []byte("a"), false},
		} {
			message := sealTo(t, key.Public(), []byte("plaintext"), tt.sealed)
			if !tt.ok {
				refuse(t, set, message, tt.opened, refusal(set, message))
			} else if got, _, err := open(t, set, message, tt.opened); err != nil || string(got) != "plaintext" {
				t.Errorf("%s: opened to %q, %v", tt.name, got, err)
			}
		}
	})
}

func TestSealAppends(t *testing.T) {
	everyKey(t, func(t *testing.T, _ spec, _ form, key *seal.PrivateKey) {
		public := key.Public()
		for _, n := range plaintextSizes {
			plaintext := pattern(n)
			for _, tt := range []struct {
				name  string
				head  string
				spare int // bytes of dst's capacity beyond the result, if not negative
				moves bool
			}{
				{"nil", "", -n - public.Overhead(), true},
				{"exact", "head", 0, false},
				{"spare", "head", 100, false},
				{"one short", "head", -1, true},
			} {
				size := len(tt.head) + n + public.Overhead()
				back := canaries(size + tt.spare)
				copy(back, tt.head)
				got, err := public.Seal(back[:len(tt.head)], plaintext, []byte("info"))
				if err != nil {
					t.Fatal(err)
				}
				if len(got) != size || !bytes.HasPrefix(got, []byte(tt.head)) {
					t.Fatalf("%d bytes, %s: %d bytes, start %.8q", n, tt.name, len(got), got)
				}
				if moved := len(back) == 0 || &got[0] != &back[0]; moved != tt.moves {
					t.Errorf("%d bytes, %s: reallocated: %v", n, tt.name, moved)
				}
				if !bytes.Equal(plaintext, pattern(n)) {
					t.Fatalf("%d bytes, %s: the plaintext was changed", n, tt.name)
				}
				if tt.moves {
					size = len(tt.head) // nothing of the old array is to be touched
				}
				if len(back) > size && !bytes.Equal(back[size:], canaries(len(back)-size)) {
					t.Errorf("%d bytes, %s: bytes beyond the result were changed", n, tt.name)
				}
				if p, err := key.Open(nil, got[len(tt.head):], []byte("info")); err != nil || !bytes.Equal(p, plaintext) {
					t.Errorf("%d bytes, %s: does not open: %v", n, tt.name, err)
				}
			}
		}
	})
}

func TestSealInPlace(t *testing.T) {
	everyKey(t, func(t *testing.T, _ spec, _ form, key *seal.PrivateKey) {
		public := key.Public()
		for _, n := range plaintextSizes {
			for _, head := range []string{"", "head"} {
				size := len(head) + n + public.Overhead()
				back := canaries(size + 32)
				dst := append(back[:0], head...)
				plaintext := back[len(dst)+public.HeaderLen():][:n]
				copy(plaintext, pattern(n))
				got, err := public.Seal(dst, plaintext, nil)
				if err != nil {
					t.Fatal(err)
				}
				if len(got) != size || &got[0] != &back[0] || !bytes.HasPrefix(got, []byte(head)) {
					t.Fatalf("%d bytes: %d bytes, want %d, same array %v, start %.8q", n, len(got), size, &got[0] == &back[0], got)
				}
				if !bytes.Equal(back[size:], canaries(32)) {
					t.Errorf("%d bytes: bytes beyond the result were changed", n)
				}
				if p, err := key.Open(nil, got[len(head):], nil); err != nil || !bytes.Equal(p, pattern(n)) {
					t.Errorf("%d bytes: does not open: %v", n, err)
				}
			}
		}
	})
}

// Wherever the plaintext stands in dst's spare capacity, Seal seals it or panics;
// it never seals other bytes.
func TestSealOverlap(t *testing.T) {
	everyKey(t, func(t *testing.T, spec spec, f form, key *seal.PrivateKey) {
		public := key.Public()
		h := public.HeaderLen()
		const n = 8
		step := max(1, h/64)
		for at := 0; at <= h+3*n+16; at++ {
			if at%step != 0 && (at < h-2*n || at > h+2*n) {
				continue
			}
			back := make([]byte, h+4*n+32)
			plaintext := back[at:][:n]
			copy(plaintext, pattern(n))
			var got []byte
			var err error
			did := panics(func() { got, err = public.Seal(back[:0], plaintext, nil) })
			overlaps := at > h-n && at < h+n+16 && at != h
			if harmless := spec.suite == seal.XWingAES256GCM; did != overlaps && (did || !harmless) {
				t.Fatalf("plaintext at %d, ciphertext at %d: panics: %v", at, h, did)
			}
			if did {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if p, err := key.Open(nil, got, nil); err != nil || !bytes.Equal(p, pattern(n)) {
				t.Fatalf("plaintext at %d, ciphertext at %d: sealed %x instead (%v)", at, h, p, err)
			}
		}
	})
}

func TestOpenAppends(t *testing.T) {
	everyKey(t, func(t *testing.T, _ spec, _ form, key *seal.PrivateKey) {
		for _, n := range plaintextSizes {
			message := sealTo(t, key.Public(), pattern(n), nil)
			before := bytes.Clone(message)
			for _, tt := range []struct {
				name  string
				head  string
				spare int
				moves bool
			}{
				{"exact", "head", 0, false},
				{"spare", "head", 100, false},
				{"no room", "head", -n, n > 0},
			} {
				size := len(tt.head) + n
				back := canaries(size + tt.spare)
				copy(back, tt.head)
				got, err := key.Open(back[:len(tt.head)], message, nil)
				if err != nil {
					t.Fatal(err)
				}
				if want := append([]byte(tt.head), pattern(n)...); !bytes.Equal(got, want) {
					t.Fatalf("%d bytes, %s: opened to %.20q", n, tt.name, got)
				}
				if moved := &got[0] != &back[0]; moved != tt.moves {
					t.Errorf("%d bytes, %s: reallocated: %v", n, tt.name, moved)
				}
				if !tt.moves && !bytes.Equal(back[size:], canaries(len(back)-size)) {
					t.Errorf("%d bytes, %s: bytes beyond the result were changed", n, tt.name)
				}
			}
			if !bytes.Equal(message, before) {
				t.Fatalf("%d bytes: Open changed the message", n)
			}
		}
	})
}

// A failed Open keeps dst's bytes and the message, and returns nothing.
func TestOpenFailureKeepsInputs(t *testing.T) {
	everyKey(t, func(t *testing.T, _ spec, _ form, key *seal.PrivateKey) {
		message := sealTo(t, key.Public(), pattern(1000), nil)
		message[len(message)-1] ^= 1
		before := bytes.Clone(message)
		dst := append(make([]byte, 0, 2000), "head"...)
		got, err := key.Open(dst, message, nil)
		if got != nil || err == nil || errors.Is(err, seal.ErrMalformed) {
			t.Errorf("opened to %d bytes, %v", len(got), err)
		}
		if string(dst) != "head" || !bytes.Equal(message, before) {
			t.Error("Open changed dst's bytes or the message")
		}
	})
}

// What OpenInPlace returns may be appended to without running past the message.
func TestOpenInPlaceStaysInMessage(t *testing.T) {
	everyKey(t, func(t *testing.T, _ spec, _ form, key *seal.PrivateKey) {
		message := sealTo(t, key.Public(), pattern(100), nil)
		back := append(bytes.Clone(message), canaries(64)...)
		plaintext, opener, err := keySet(t, key).OpenInPlace(back[:len(message)], nil)
		if err != nil || opener != key || !bytes.Equal(plaintext, pattern(100)) {
			t.Fatalf("opened to %d bytes by %v, %v", len(plaintext), opener, err)
		}
		_ = append(plaintext, bytes.Repeat([]byte{1}, 64)...)
		if !bytes.Equal(back[len(message):], canaries(64)) {
			t.Error("appending to the plaintext wrote beyond the message")
		}
	})
}
