package seal_test

import (
	"bytes"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

// Every single-bit flip of a message is refused, with the error that the place of
// the flip calls for. X-Wing's enc is long: one bit of each of its bytes.
func TestBitFlips(t *testing.T) {
	flips := 0
	everyKey(t, func(t *testing.T, sp spec, f form, key *seal.PrivateKey) {
		set := keySet(t, key)
		message := sealTo(t, key.Public(), pattern(3), []byte("info"))
		h := key.Public().HeaderLen()
		for bit := range 8 * len(message) {
			at := bit / 8
			if sp.suite == seal.XWingAES256GCM && at >= f.prefix && at < h && bit%8 != at%8 {
				continue
			}
			flipped := bytes.Clone(message)
			flipped[at] ^= 1 << (bit % 8)

			want := seal.ErrDecryptionFailed
			if f.prefix > 0 && at >= 1 && at < f.prefix {
				want = seal.ErrUnknownKey // the id is another
			} else if f.prefix == 0 && flipped[0] == 0x01 {
				want = seal.ErrUnknownKey // it now looks like a prefix
			}
			refuse(t, set, flipped, []byte("info"), want)
			flips++
		}
		if _, _, err := open(t, set, message, []byte("info")); err != nil {
			t.Fatalf("the message itself: %v", err)
		}
	})
	t.Logf("%d flips", flips)
}

func TestTruncations(t *testing.T) {
	cuts := 0
	everyKey(t, func(t *testing.T, sp spec, f form, key *seal.PrivateKey) {
		set := keySet(t, key)
		message := sealTo(t, key.Public(), pattern(20), nil)
		for n := range len(message) {
			want := seal.ErrMalformed
			if n >= key.Public().Overhead() {
				want = seal.ErrDecryptionFailed
				if f.prefix == 0 && message[0] == 0x01 {
					want = seal.ErrUnknownKey
				}
			}
			refuse(t, set, message[:n], nil, want)
			cuts++
		}
		refuse(t, set, nil, nil, seal.ErrMalformed)
		refuse(t, set, append(bytes.Clone(message), 0), nil, refusal(set, message))
		refuse(t, set, append([]byte{0}, message...), nil, seal.ErrDecryptionFailed)
	})
	t.Logf("%d truncations", cuts)
}

// Messages that belong together only in part: a prefix on a RAW key's message, a
// prefix that is missing, another message's enc or ciphertext.
func TestSplices(t *testing.T) {
	everyKey(t, func(t *testing.T, sp spec, f form, key *seal.PrivateKey) {
		set := keySet(t, key)
		a := sealTo(t, key.Public(), pattern(32), nil)
		b := sealTo(t, key.Public(), pattern(32), nil)
		h := key.Public().HeaderLen()
		spliced := append(bytes.Clone(a[:h]), b[h:]...)
		refuse(t, set, spliced, nil, refusal(set, spliced))
		doubled := append(prefixOf(key.ID()), a...)
		refuse(t, set, doubled, nil, seal.ErrDecryptionFailed)
		if f.prefix > 0 {
			bare := a[f.prefix:]
			refuse(t, set, bare, nil, refusal(set, bare))
			for first := range 256 {
				if first != 0x01 { // CRUNCHY and LEGACY start with 0x00
					other := bytes.Clone(a)
					other[0] = byte(first)
					refuse(t, set, other, nil, seal.ErrDecryptionFailed)
				}
			}
		}
	})
}

// An enc that is no key, or one with which every secret is known, must not open
// and must not panic.
func TestBadEncapsulatedKeys(t *testing.T) {
	everyKey(t, func(t *testing.T, sp spec, f form, key *seal.PrivateKey) {
		set := keySet(t, key)
		message := sealTo(t, key.Public(), pattern(10), nil)
		for _, fill := range []byte{0x00, 0x01, 0x02, 0x04, 0x7f, 0xff} {
			bad := bytes.Clone(message)
			copy(bad[f.prefix:], bytes.Repeat([]byte{fill}, sp.enc))
			refuse(t, set, bad, nil, refusal(set, bad))
		}
		for _, point := range lowOrder(t) {
			bad := bytes.Clone(message)
			copy(bad[f.prefix+sp.enc-32:], point)
			refuse(t, set, bad, nil, refusal(set, bad))
		}
	})
}
