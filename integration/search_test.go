package integration_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// forms returns how a secret may stand in a text, by the form's name. A longer text in
// base64, in which the secret begins at whatever byte, has one of the parts "base64 at
// ..." in it, with padding and without.
func forms(secret []byte) map[string][]byte {
	reversed := slices.Clone(secret)
	slices.Reverse(reversed)
	var numbers []int
	for _, b := range secret {
		numbers = append(numbers, int(b))
	}
	array, err := json.Marshal(numbers)
	if err != nil {
		panic(err) // they are numbers
	}
	list := string(array[1 : len(array)-1])
	f := map[string][]byte{
		"raw":                    secret,
		"hex":                    []byte(hex.EncodeToString(secret)),
		"HEX":                    []byte(strings.ToUpper(hex.EncodeToString(secret))),
		"hex with colons":        []byte(strings.ReplaceAll(fmt.Sprintf("% x", secret), " ", ":")),
		"JSON array":             []byte(list),
		"Go's %v":                []byte(strings.ReplaceAll(list, ",", " ")),
		"decimal":                []byte(new(big.Int).SetBytes(secret).String()),
		"decimal, little-endian": []byte(new(big.Int).SetBytes(reversed).String()),
		"reversed":               reversed,
	}
	for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		for at := range 3 {
			before := make([]byte, at)
			encoded := encoding.EncodeToString(append(before, secret...))
			// The first and last characters also hold bits of what stands beside.
			first := (at*8 + 5) / 6
			last := (at + len(secret)) * 8 / 6
			f[fmt.Sprintf("%s at %d", name, at)] = []byte(encoded[first:last])
		}
	}
	return f
}

// find returns the names of the forms in which a secret stands in a text, broken into
// lines perhaps.
func find(text, secret []byte) (names []string) {
	joined := bytes.Join(bytes.Fields(text), nil)
	for name, form := range forms(secret) {
		if bytes.Contains(text, form) || bytes.Contains(joined, form) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// What the search is for is found, in each form, beside whatever.
func TestFind(t *testing.T) {
	secret := []byte("\x00\xff\xfb\xef\xbe~The secret of 32 bytes...\xfe")
	if len(secret) != 32 {
		t.Fatal(len(secret))
	}
	var array strings.Builder
	fmt.Fprint(&array, "[7")
	for _, b := range secret {
		fmt.Fprintf(&array, ",%d", b)
	}
	fmt.Fprint(&array, ",9]")
	indented, err := json.MarshalIndent(map[string][]byte{"key": secret}, "", "\t")
	check(t, err)
	texts := map[string]string{
		"raw":        string(secret),
		"hex":        fmt.Sprintf("%x", secret),
		"bytea":      fmt.Sprintf(`\x%x`, secret),
		"HEX":        fmt.Sprintf("%X", secret),
		"colons":     strings.ReplaceAll(fmt.Sprintf("% x", secret), " ", ":"),
		"JSON":       string(indented),
		"JSON array": array.String(),
		"spaced":     strings.ReplaceAll(array.String(), ",", ",\n\t"),
		"%v":         fmt.Sprint(secret),
		"decimal":    new(big.Int).SetBytes(secret).String(),
	}
	for name, encoding := range map[string]*base64.Encoding{
		"std": base64.StdEncoding, "raw std": base64.RawStdEncoding, "url": base64.URLEncoding, "raw url": base64.RawURLEncoding,
	} {
		for before := range 5 {
			for after := range 5 {
				long := slices.Concat(bytes.Repeat([]byte{0xa5}, before), secret, bytes.Repeat([]byte{0x5a}, after))
				encoded := encoding.EncodeToString(long)
				texts[fmt.Sprint(name, before, after)] = encoded
				texts[fmt.Sprint(name, before, after, "in lines")] = encoded[:20] + "\r\n" + encoded[20:]
			}
		}
	}
	other := bytes.Clone(secret)
	other[16] ^= 1
	for name, text := range texts {
		text := []byte("something before " + text + " and behind")
		if len(find(text, secret)) == 0 {
			t.Errorf("%s: not found in %q", name, text)
		}
		if got := find(text, other); len(got) > 0 {
			t.Errorf("%s: what is not there is found as %v", name, got)
		}
	}
}
