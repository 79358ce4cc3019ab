package seal

import (
	"fmt"
	"log/slog"
	"strconv"
)

// String returns the key's suite and id, nothing secret.
func (k PrivateKey) String() string {
	if k.public == nil {
		return "PrivateKey(none)"
	}
	return "PrivateKey(" + k.public.suite.String() + ", id " + strconv.FormatUint(uint64(k.public.id), 10) + ")"
}

// GoString returns the same as [PrivateKey.String].
func (k PrivateKey) GoString() string { return k.String() }

// Format writes the same as [PrivateKey.String] for every verb and flag, for a
// key as for a pointer to one.
func (k PrivateKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// LogValue logs the same as [PrivateKey.String] through log/slog.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText returns the same as [PrivateKey.String]: no encoder that finds a
// key in a larger value stores it by accident.
func (k PrivateKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// MarshalJSON returns the same as [PrivateKey.String], as a JSON string.
func (k PrivateKey) MarshalJSON() ([]byte, error) { return strconv.AppendQuote(nil, k.String()), nil }
