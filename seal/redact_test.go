package seal_test

import (
	"bytes"
	"crypto/sha3"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

// noSecret fails the test if a text holds eight bytes of the secret, wherever
// in it, in one of the forms in which Go prints bytes.
func noSecret(t testing.TB, text string, secret []byte) {
	t.Helper()
	if what := leak(text, secret); what != "" {
		t.Errorf("a secret shows in %s: %q", what, text)
	}
}

// leak names the form in which a text holds a part of the secret, or returns "".
func leak(text string, secret []byte) string {
	// Each form by what matters of it: whatever a format puts in between is dropped.
	lower := strings.ToLower(text)
	haystacks := [...]string{
		inText:     text,
		inHex:      keep(lower, "0123456789abcdef"),
		inGoSyntax: keep(lower, "0123456789abcdefx "),
		inDecimals: " " + strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < '0' || r > '9' }), " ") + " ",
	}
	for _, n := range needlesOf(secret) {
		if strings.Contains(haystacks[n.in], n.text) {
			return n.form
		}
	}
	return ""
}

const (
	inText = iota
	inHex
	inGoSyntax
	inDecimals
)

type needle struct {
	in         int
	form, text string
}

var needleCache sync.Map

func needlesOf(secret []byte) (needles []needle) {
	if cached, ok := needleCache.Load(string(secret)); ok {
		return cached.([]needle)
	}
	const window = 8
	for at := 0; at+window <= len(secret); at += 4 {
		part := secret[at : at+window]
		var decimals, goSyntax []string
		for _, b := range part {
			decimals = append(decimals, strconv.Itoa(int(b)))
			goSyntax = append(goSyntax, fmt.Sprintf("%#x", b))
		}
		needles = append(needles,
			needle{inText, "raw bytes", string(part)},
			needle{inHex, "hex", hex.EncodeToString(part)},
			needle{inGoSyntax, "Go syntax", strings.Join(goSyntax, " ")},
			needle{inDecimals, "decimals", " " + strings.Join(decimals, " ") + " "},
		)
		for shift := range 3 { // base64 of a longer value: the part starts at any of three places
			whole := base64.StdEncoding.EncodeToString(append(make([]byte, shift), part...))
			inner := whole[4*((shift+2)/3) : len(whole)/4*4-4]
			needles = append(needles,
				needle{inText, "base64", inner},
				needle{inText, "base64", strings.NewReplacer("+", "-", "/", "_").Replace(inner)},
			)
		}
	}
	needleCache.Store(string(secret), needles)
	return needles
}

func keep(s, set string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(set, r) {
			return r
		}
		return -1
	}, s)
}

// The search itself must find what it is meant to find.
func TestLeakIsFound(t *testing.T) {
	secret := fixedSecret(seal.X25519AES256GCM, "leak")
	for _, format := range []string{"%s", "%v", "%d", "%x", "%X", "% x", "% X", "%#x", "%# x", "%q", "%#v", "%+v"} {
		text := fmt.Sprintf(format, secret)
		if format == "%q" {
			text, _ = strconv.Unquote(text)
		}
		if leak("key: "+text+" end", secret) == "" {
			t.Errorf("not found in %s: %s", format, text)
		}
	}
	for shift := range 3 {
		longer := append(make([]byte, shift), secret...)
		for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
			if text := enc.EncodeToString(longer); leak(text, secret) == "" {
				t.Errorf("not found in %s", text)
			}
		}
	}
	if j, _ := json.Marshal(map[string]any{"k": [32]byte(secret)}); leak(string(j), secret) == "" {
		t.Errorf("not found in %s", j)
	}
	if what := leak(fmt.Sprintf("%x %v", fixedSecret(seal.X25519AES256GCM, "other"), "PrivateKey(X25519-AES256GCM, id 5)"), secret); what != "" {
		t.Errorf("found as %s where it is not", what)
	}
}

type (
	exported      struct{ Key *seal.PrivateKey }
	exportedValue struct{ Key seal.PrivateKey }
	hidden        struct{ key *seal.PrivateKey }
	hiddenValue   struct{ key seal.PrivateKey }
	hiddenSet     struct{ set *seal.KeySet }
	embedded      struct{ *seal.PrivateKey }
	deep          struct {
		Name string
		In   struct{ hidden []hiddenValue }
		Any  any
	}
)

// holders are values with a key in them. Where shows is set, fmt can call the key's
// methods, so suite and id must show.
func holders(t testing.TB, k *seal.PrivateKey) []struct {
	name  string
	value any
	shows bool
} {
	d := deep{Name: "deep", Any: exportedValue{*k}}
	d.In.hidden = []hiddenValue{{*k}}
	return []struct {
		name  string
		value any
		shows bool
	}{
		{"pointer", k, true},
		{"value", *k, true},
		{"pointer to pointer", &k, false},
		{"exported field", exported{k}, true},
		{"exported field, pointer", &exported{k}, true},
		{"exported value", exportedValue{*k}, true},
		{"hidden field", hidden{k}, false},
		{"hidden field, pointer", &hidden{k}, false},
		{"hidden value", hiddenValue{*k}, false},
		{"hidden value, pointer", &hiddenValue{*k}, false},
		{"embedded", embedded{k}, true},
		{"slice", []*seal.PrivateKey{k}, true},
		{"slice of values", []seal.PrivateKey{*k}, true},
		{"slice of any", []any{k, *k}, true},
		{"array", [1]seal.PrivateKey{*k}, true},
		{"map", map[string]*seal.PrivateKey{"k": k}, true},
		{"map of values", map[string]seal.PrivateKey{"k": *k}, true},
		{"map key", map[*seal.PrivateKey]int{k: 1}, true},
		{"slice of hidden", []hiddenValue{{*k}}, false},
		{"key set", keySet(t, k), false},
		{"key set, value", *keySet(t, k), false},
		{"hidden key set", hiddenSet{keySet(t, k)}, false},
		{"deep", d, true},
		{"deep, pointer", &d, true},
	}
}

// redactedKeys are keys of every KEM, with all that must not show of each.
func redactedKeys(t testing.TB) map[*seal.PrivateKey][][]byte {
	keys := map[*seal.PrivateKey][][]byte{}
	for _, suite := range []seal.Suite{seal.X25519AES256GCM, seal.P256AES256GCM, seal.XWingAES256GCM} {
		k := fixedKey(t, suite, 987654321, "redacted")
		secrets := [][]byte{k.Bytes()}
		if suite == seal.XWingAES256GCM {
			// the ML-KEM seed and the X25519 scalar that the seed stands for
			secrets = append(secrets, sha3.SumSHAKE256(k.Bytes(), 96))
		}
		keys[k] = secrets
	}
	return keys
}

func checkRedacted(t *testing.T, text string, k *seal.PrivateKey, secrets [][]byte, shows bool) {
	t.Helper()
	for _, s := range secrets {
		noSecret(t, text, s)
	}
	if shows && (!strings.Contains(text, k.Suite().String()) || !strings.Contains(text, "987654321")) {
		t.Errorf("suite and id do not show in %q", text)
	}
}

func TestRedactFmt(t *testing.T) {
	var formats []string
	for _, verb := range "vTtbcdoOqxXUeEfFgGspwAz" { // all that fmt has, and two that it does not
		for _, flags := range []string{"", "+", "-", "#", " ", "0", "+#", "# ", "040", "9.2", "+#40.1"} {
			formats = append(formats, "%"+flags+string(verb))
		}
	}
	for k, secrets := range redactedKeys(t) {
		for _, h := range holders(t, k) {
			seen := map[string]bool{}
			for _, format := range formats {
				text := fmt.Sprintf(format, h.value)
				if seen[text] {
					continue
				}
				seen[text] = true
				// fmt does these three without asking the value.
				own := strings.HasSuffix(format, "p") || strings.HasSuffix(format, "T") || strings.HasSuffix(format, "w")
				checkRedacted(t, text, k, secrets, h.shows && !own)
				if t.Failed() {
					t.Fatalf("%v, %s, %s", k, h.name, format)
				}
			}
			for _, text := range []string{
				fmt.Sprint(h.value), fmt.Sprintln(h.value), string(fmt.Append(nil, h.value)),
				fmt.Errorf("opening with %v: %w", h.value, errors.New("x")).Error(),
				fmt.Errorf("%d", h.value).Error(),
			} {
				checkRedacted(t, text, k, secrets, h.shows)
			}
		}
		want := fmt.Sprintf("PrivateKey(%v, id %d)", k.Suite(), k.ID())
		for _, got := range []string{k.String(), k.GoString(), fmt.Sprintf("%v", k), fmt.Sprintf("%#v", *k), fmt.Sprintf("%d", k), fmt.Sprintf("%x", *k), fmt.Sprintf("%q", k)} {
			if got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
}

func TestRedactSlog(t *testing.T) {
	for k, secrets := range redactedKeys(t) {
		// for handlers that do not ask fmt or encoding/json
		for _, v := range []slog.Value{slog.AnyValue(k).Resolve(), slog.AnyValue(*k).Resolve()} {
			if v.Kind() != slog.KindString || v.String() != k.String() {
				t.Errorf("slog resolves %v to %v %v", k, v.Kind(), v)
			}
		}
		for _, h := range holders(t, k) {
			var text, structured bytes.Buffer
			slog.New(slog.NewTextHandler(&text, nil)).With("with", h.value).Info("m", "k", h.value, slog.Group("g", "k", h.value))
			slog.New(slog.NewJSONHandler(&structured, nil)).With("with", h.value).Info("m", "k", h.value, slog.Group("g", "k", h.value))
			checkRedacted(t, text.String(), k, secrets, h.shows)
			// Hidden fields are none for JSON; a map key is text, through MarshalText.
			checkRedacted(t, structured.String(), k, secrets, h.shows)
		}
	}
}

func TestRedactEncoders(t *testing.T) {
	for k, secrets := range redactedKeys(t) {
		for _, h := range holders(t, k) {
			j, err := json.Marshal(map[string]any{"in": []any{h.value}})
			if err != nil {
				t.Errorf("%s: JSON: %v", h.name, err)
			}
			checkRedacted(t, string(j), k, secrets, h.shows)
			if !json.Valid(j) {
				t.Errorf("%s: %q is no JSON", h.name, j)
			}
			// These may refuse; what they write is what counts.
			x, _ := xml.Marshal(h.value)
			checkRedacted(t, string(x), k, secrets, false)
			var g bytes.Buffer
			_ = gob.NewEncoder(&g).Encode(h.value)
			checkRedacted(t, g.String(), k, secrets, false)
		}
		if j, err := json.Marshal(k); err != nil || string(j) != `"`+k.String()+`"` {
			t.Errorf("JSON %s, %v", j, err)
		}
		if text, err := k.MarshalText(); err != nil || string(text) != k.String() {
			t.Errorf("text %s, %v", text, err)
		}
	}
}

const panicVariable = "SEAL_TEST_PANIC"

// A panic prints its value by rules of the runtime's own, to be seen from outside only.
func TestRedactPanic(t *testing.T) {
	k := fixedKey(t, seal.X25519AES256GCM, 987654321, "redacted")
	values := map[string]any{
		"pointer": k,
		"value":   *k,
		"hidden":  hiddenValue{*k},
		"error":   fmt.Errorf("no use for %v", k),
	}
	if name := os.Getenv(panicVariable); name != "" {
		panic(values[name])
	}
	for name := range values {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(self, "-test.run=^TestRedactPanic$")
			cmd.Env = append(os.Environ(), panicVariable+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !bytes.Contains(out, []byte("panic: ")) {
				t.Fatalf("it did not panic: %v, %s", err, out)
			}
			checkRedacted(t, string(out), k, [][]byte{k.Bytes()}, name == "error")
		})
	}
}

// A key that is none must not make a log line panic.
func TestRedactNone(t *testing.T) {
	var none *seal.PrivateKey
	var nobody *seal.PublicKey
	for _, got := range []string{fmt.Sprint(seal.PrivateKey{}), fmt.Sprintf("%+v", &seal.PrivateKey{})} {
		if got != "PrivateKey(none)" {
			t.Errorf("%q", got)
		}
	}
	if got := fmt.Sprint(nobody); got != "PublicKey(none)" {
		t.Errorf("%q", got)
	}
	var text bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&text, nil))
	log.Info(fmt.Sprintf("%v %#v", none, exported{}), "k", none, "z", seal.PrivateKey{})
	if _, err := json.Marshal(exported{}); err != nil {
		t.Error(err)
	}
}

// What is public shows: suite, id and fingerprint.
func TestPublicKeyString(t *testing.T) {
	everyKey(t, func(t *testing.T, _ spec, _ form, key *seal.PrivateKey) {
		k := key.Public()
		want := fmt.Sprintf("PublicKey(%v, id %d, %s)", k.Suite(), k.ID(), k.Fingerprint())
		if got := fmt.Sprint(k); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			noSecret(t, fmt.Sprintf(format, k)+fmt.Sprintf(format, *k), key.Bytes())
		}
	})
}

// Some printers, those of test libraries among them, call no methods and follow
// every pointer. What they can reach must not hold the secret either.
func TestRedactReflection(t *testing.T) {
	for k, secrets := range redactedKeys(t) {
		var found bytes.Buffer
		seen := map[uintptr]bool{}
		var walk func(v reflect.Value)
		walk = func(v reflect.Value) {
			switch v.Kind() {
			case reflect.Pointer:
				if !v.IsNil() && !seen[v.Pointer()] {
					seen[v.Pointer()] = true
					walk(v.Elem())
				}
			case reflect.Interface:
				walk(v.Elem())
			case reflect.Struct:
				for i := range v.NumField() {
					walk(v.Field(i))
				}
			case reflect.Slice, reflect.Array:
				for i := range v.Len() {
					walk(v.Index(i))
				}
				found.WriteByte(' ')
			case reflect.Map:
				for _, key := range v.MapKeys() {
					walk(v.MapIndex(key))
				}
			case reflect.String:
				found.WriteString(v.String())
			case reflect.Uint8:
				found.WriteByte(byte(v.Uint()))
			}
		}
		walk(reflect.ValueOf(hiddenValue{*k}))
		walk(reflect.ValueOf(keySet(t, k)))
		if !bytes.Contains(found.Bytes(), k.Public().Bytes()) {
			t.Error("the walk does not even find the public key")
		}
		for _, s := range secrets {
			noSecret(t, found.String(), s)
		}
	}
}
