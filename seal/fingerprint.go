package seal

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// Fingerprint returns 40 digits in eight groups of five to compare a key by,
// over the telephone if need be:
//
//	21503-00417-59264-...
//
// It covers suite and key, not the id. It is made so, and stays so: the first 16
// bytes of SHA-256 over "sealhttp fingerprint v1", a zero byte, the suite's name
// as [Suite.String] gives it, a zero byte, and the serialized public key; each
// two of these bytes, big-endian, are one group in decimal, 00000 to 65535. To
// find another key of the same fingerprint takes about 2^128 trials, so all eight
// groups are to be compared.
func (k *PublicKey) Fingerprint() string {
	h := sha256.New()
	h.Write([]byte("sealhttp fingerprint v1\x00" + k.suite.String() + "\x00"))
	h.Write(k.bytes)
	sum := h.Sum(nil)
	groups := make([]string, 8)
	for i := range groups {
		groups[i] = fmt.Sprintf("%05d", binary.BigEndian.Uint16(sum[2*i:]))
	}
	return strings.Join(groups, "-")
}

// String returns the key's suite, id and fingerprint.
func (k *PublicKey) String() string {
	if k == nil {
		return "PublicKey(none)"
	}
	return "PublicKey(" + k.suite.String() + ", id " + strconv.FormatUint(uint64(k.id), 10) + ", " + k.Fingerprint() + ")"
}
