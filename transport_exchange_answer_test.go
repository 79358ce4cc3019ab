package sealhttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// txCall makes one call to a server that answers so.
func txCall(t *testing.T, h2 bool, method string, opts []sealhttp.TransportOption, answers ...func(http.ResponseWriter, *txRequest)) (*http.Response, *txServer, error) {
	t.Helper()
	key := trDefaultKey(t)
	server := &txServer{keys: []*seal.PrivateKey{key}, answers: answers}
	srv, base := trServe(t, h2, server)
	tracking := &trTracking{RoundTripper: base}
	resp, err := txTransport(t, key.Public(), tracking, opts...).RoundTrip(trRequest(t, method, srv.URL, nil))
	if err != nil {
		tracking.check(t, len(server.requests()))
		if resp != nil {
			t.Errorf("a response and %v", err)
		}
	} else {
		t.Cleanup(func() { resp.Body.Close() })
	}
	return resp, server, err
}

// What the handler answers comes back as the handler made it, whatever its status.
func TestExchangeAnswers(t *testing.T) {
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for _, status := range []int{200, 201, 206, 299, 300, 302, 307, 399, 400, 401, 404, 418, 499, 500, 502, 503, 599, 600, 999} {
			for _, contentType := range []string{"", "text/plain; charset=utf-8", sealhttp.MediaType} {
				resp, _, err := txCall(t, h2, "POST", nil, txSealed(txAnswer{status: status, contentType: contentType, body: "the body", edit: func(h http.Header) {
					h.Set("Etag", `"a"`)
					h.Set("Location", "/elsewhere")
				}}))
				if err != nil {
					t.Fatalf("%d: %v", status, err)
				}
				want := http.Header{"Etag": {`"a"`}, "Location": {"/elsewhere"}, "Date": resp.Header["Date"]}
				if contentType != "" {
					want.Set("Content-Type", contentType)
				}
				if resp.StatusCode != status || !maps.EqualFunc(resp.Header, want, slices.Equal) || resp.ContentLength != -1 || resp.Uncompressed ||
					resp.TransferEncoding != nil || resp.Trailer != nil {
					t.Errorf("%d: got %d, %v, length %d", status, resp.StatusCode, resp.Header, resp.ContentLength)
				}
				if got := trRead(t, resp); got != "the body" {
					t.Errorf("%d: got %q", status, got)
				}
				if info, ok := sealhttp.FromResponse(resp); !ok || info.Profile != sealhttp.ExchangeProfile || info.KeyID == 0 || info.CallerKeyID != 0 || !info.RequestSealed || !info.ResponseSealed {
					t.Errorf("%d: %+v, %t", status, info, ok)
				}
			}
		}
		for _, row := range []struct {
			method string
			status int
			length int64
		}{{"GET", 204, 0}, {"POST", 205, 0}, {"GET", 304, 0}, {"HEAD", 200, -1}, {"HEAD", 404, -1}, {"HEAD", 503, -1}, {"GET", 200, 0}, {"DELETE", 404, 0}} {
			resp, _, err := txCall(t, h2, row.method, nil, txSealed(txAnswer{status: row.status, bodiless: true, edit: func(h http.Header) {
				h.Set("X", "y")
				if row.method == "HEAD" {
					h.Set("Content-Length", "12")
				}
			}}))
			if err != nil {
				t.Fatalf("%s %d: %v", row.method, row.status, err)
			}
			want := http.Header{"X": {"y"}, "Date": resp.Header["Date"]}
			if got := trRead(t, resp); got != "" || resp.ContentLength != row.length || resp.StatusCode != row.status || !maps.EqualFunc(resp.Header, want, slices.Equal) {
				t.Errorf("%s %d: got %d, %v, length %d, %q", row.method, row.status, resp.StatusCode, resp.Header, resp.ContentLength, got)
			}
			if _, ok := sealhttp.FromResponse(resp); !ok {
				t.Errorf("%s %d: FromResponse says that nothing authenticates it", row.method, row.status)
			}
		}
	})
}

// Content behind a response that is to have none is anyone's: it is not given.
func TestExchangeBodilessContent(t *testing.T) {
	for _, status := range []int{200, 205, 500} {
		resp, _, err := txCall(t, false, "GET", nil, func(w http.ResponseWriter, q *txRequest) {
			txAnswer{status: status, bodiless: true}.write(w, q)
			_, _ = io.WriteString(w, "forged")
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := trRead(t, resp); got != "" || resp.ContentLength != 0 {
			t.Errorf("%d: got %q of length %d", status, got, resp.ContentLength)
		}
	}
}

// Every answer in clear is an error, with what it claims.
func TestExchangeAnswersInClear(t *testing.T) {
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for _, method := range []string{"HEAD", "POST"} {
			for _, status := range []int{200, 204, 205, 302, 304, 307, 400, 409, 502} {
				for claimed, want := range map[string]sealhttp.Code{
					"": "", "nonsense": "", "replayed": sealhttp.CodeReplayed, "unknown_key": sealhttp.CodeUnknownKey, "no_client_key": sealhttp.CodeNoClientKey,
				} {
					_, server, err := txCall(t, h2, method, nil, txClear(status, claimed))
					txIs(t, err, want, status, sealhttp.ErrUnauthenticated, sealhttp.ErrOutcomeUnknown)
					server.check(t, 1)
				}
			}
		}
	})
	t.Run("101", func(t *testing.T) {
		_, _, err := txCall(t, false, "GET", nil, func(w http.ResponseWriter, q *txRequest) {
			w.Header().Set("Upgrade", "x")
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(101)
		})
		txIs(t, err, "", 101, sealhttp.ErrUnauthenticated, sealhttp.ErrOutcomeUnknown)
	})
	t.Run("message profile", func(t *testing.T) {
		caller := trDefaultKey(t)
		_, _, err := txCall(t, false, "GET", []sealhttp.TransportOption{sealhttp.WithPrivateKeys(caller)}, func(w http.ResponseWriter, q *txRequest) {
			message, err := caller.Public().Seal(nil, []byte("text"), nil)
			if err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", sealhttp.MediaType)
			_, _ = w.Write(message)
		})
		txIs(t, err, "", 200, sealhttp.ErrUnauthenticated, sealhttp.ErrOutcomeUnknown)
	})
}

// One that was changed on its way, and one that was not made by the rules, is refused
// whatever it says.
func TestExchangeAnswersChanged(t *testing.T) {
	replace := func(old, new string) func(h http.Header) {
		return func(h http.Header) {
			line := h.Get("Sealed-Exchange")
			changed := strings.Replace(line, old, new, 1)
			if changed == line {
				panic("nothing was replaced in " + line)
			}
			h.Set("Sealed-Exchange", changed)
		}
	}
	rows := map[string]struct {
		method string
		answer txAnswer
		code   sealhttp.Code
		status int
	}{
		"status":                {"GET", txAnswer{sent: 201}, sealhttp.CodeDecryptionFailed, 201},
		"status of an error":    {"GET", txAnswer{status: 404, sent: 200}, sealhttp.CodeDecryptionFailed, 200},
		"a status of its own":   {"GET", txAnswer{sent: 502}, sealhttp.CodeDecryptionFailed, 502},
		"type removed":          {"GET", txAnswer{edit: func(h http.Header) { h.Del("Content-Type") }}, sealhttp.CodeDecryptionFailed, 200},
		"another type":          {"GET", txAnswer{edit: func(h http.Header) { h.Set("Content-Type", "text/plain") }}, sealhttp.CodeDecryptionFailed, 200},
		"two types":             {"GET", txAnswer{edit: func(h http.Header) { h.Add("Content-Type", "text/plain") }}, sealhttp.CodeDecryptionFailed, 200},
		"type added":            {"GET", txAnswer{bodiless: true, edit: func(h http.Header) { h.Set("Content-Type", sealhttp.ExchangeMediaType) }}, sealhttp.CodeDecryptionFailed, 200},
		"204 with a type":       {"GET", txAnswer{status: 204, edit: nil}, sealhttp.CodeMalformed, 204},
		"HEAD with a body":      {"HEAD", txAnswer{}, sealhttp.CodeMalformed, 200},
		"sealed type":           {"GET", txAnswer{contentType: "a/b", edit: func(h http.Header) { h.Set("Sealed-Content-Type", "a/c") }}, sealhttp.CodeDecryptionFailed, 200},
		"sealed type removed":   {"GET", txAnswer{contentType: "a/b", edit: func(h http.Header) { h.Del("Sealed-Content-Type") }}, sealhttp.CodeDecryptionFailed, 200},
		"sealed type added":     {"GET", txAnswer{edit: func(h http.Header) { h.Set("Sealed-Content-Type", "a/b") }}, sealhttp.CodeDecryptionFailed, 200},
		"two sealed types":      {"GET", txAnswer{contentType: "a/b", edit: func(h http.Header) { h.Add("Sealed-Content-Type", "a/b") }}, sealhttp.CodeMalformed, 200},
		"type without body":     {"GET", txAnswer{bodiless: true, contentType: "a/b", edit: func(h http.Header) { h.Set("Sealed-Content-Type", "a/b") }}, sealhttp.CodeMalformed, 200},
		"strange sealed type":   {"GET", txAnswer{contentType: "a/\u00e9"}, sealhttp.CodeMalformed, 200},
		"long sealed type":      {"GET", txAnswer{contentType: strings.Repeat("a", 1025)}, sealhttp.CodeMalformed, 200},
		"error added":           {"GET", txAnswer{edit: func(h http.Header) { h.Set("Sealed-Error", "stale") }}, sealhttp.CodeDecryptionFailed, 200},
		"error removed":         {"GET", txAnswer{status: 400, code: "stale", edit: func(h http.Header) { h.Del("Sealed-Error") }}, sealhttp.CodeDecryptionFailed, 400},
		"error changed":         {"GET", txAnswer{status: 400, code: "stale", edit: func(h http.Header) { h.Set("Sealed-Error", "too_large") }}, sealhttp.CodeDecryptionFailed, 400},
		"two errors":            {"GET", txAnswer{status: 400, code: "stale", edit: func(h http.Header) { h.Add("Sealed-Error", "stale") }}, sealhttp.CodeMalformed, 400},
		"two errors for none":   {"GET", txAnswer{edit: func(h http.Header) { h["Sealed-Error"] = []string{"", ""} }}, sealhttp.CodeMalformed, 200},
		"two fields":            {"GET", txAnswer{edit: func(h http.Header) { h.Add("Sealed-Exchange", h.Get("Sealed-Exchange")) }}, sealhttp.CodeMalformed, 200},
		"no field's content":    {"GET", txAnswer{edit: func(h http.Header) { h.Set("Sealed-Exchange", "") }}, sealhttp.CodeMalformed, 200},
		"another version":       {"GET", txAnswer{edit: replace("v=1", "v=2")}, sealhttp.CodeUnsupportedProfile, 200},
		"another member":        {"GET", txAnswer{edit: replace("v=1", "v=1, w=1")}, sealhttp.CodeMalformed, 200},
		"a member twice":        {"GET", txAnswer{edit: replace("v=1", "v=1, v=1")}, sealhttp.CodeMalformed, 200},
		"ckid without cenc":     {"GET", txAnswer{edit: replace("v=1", "v=1, ckid=1")}, sealhttp.CodeMalformed, 200},
		"no nonce":              {"GET", txAnswer{edit: replace("nonce=", "nonc=")}, sealhttp.CodeMalformed, 200},
		"another nonce":         {"GET", txAnswer{edit: func(h http.Header) { txFlip(h, "nonce=:") }}, sealhttp.CodeDecryptionFailed, 200},
		"another tag":           {"GET", txAnswer{edit: func(h http.Header) { txFlip(h, "auth=:") }}, sealhttp.CodeDecryptionFailed, 200},
		"Content-Encoding":      {"GET", txAnswer{edit: func(h http.Header) { h.Set("Content-Encoding", "br") }}, sealhttp.CodeUnsupportedContentEncoding, 200},
		"gzip, which Go undoes": {"GET", txAnswer{edit: func(h http.Header) { h.Set("Content-Encoding", "gzip") }}, sealhttp.CodeUnsupportedContentEncoding, 200},
	}
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for name, row := range rows {
			row.answer.body = "text"
			if row.answer.status == 204 {
				row.answer.body, row.answer.cut = "", true
			}
			_, server, err := txCall(t, h2, row.method, nil, txSealed(row.answer))
			if err == nil {
				t.Errorf("%s: a response came", name)
				continue
			}
			txIs(t, err, row.code, row.status, sealhttp.ErrUnauthenticated, sealhttp.ErrResponseNotOpened, sealhttp.ErrOutcomeUnknown)
			server.check(t, 1)
		}
		// What does not change the response does not matter.
		for name, edit := range map[string]func(h http.Header){
			"type in capitals":     func(h http.Header) { h.Set("Content-Type", "Application/Sealed-Exchange+HPKE") },
			"type with parameters": func(h http.Header) { h.Set("Content-Type", sealhttp.ExchangeMediaType+"; q=1") },
			"identity":             func(h http.Header) { h.Set("Content-Encoding", "identity") },
			"an empty error":       func(h http.Header) { h["Sealed-Error"] = []string{""} },
		} {
			resp, _, err := txCall(t, h2, "GET", nil, txSealed(txAnswer{body: "text", edit: edit}))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if got := trRead(t, resp); got != "text" {
				t.Errorf("%s: got %q", name, got)
			}
		}
	})
	// A status that is none, which net/http would not send.
	for _, status := range []int{0, 99, 100, 199, 1000, 65736} {
		key := trDefaultKey(t)
		tr := txTransport(t, key.Public(), trBase(func(req *http.Request) (*http.Response, error) {
			w := &txRecorder{header: make(http.Header)}
			txAnswer{sent: status}.write(w, txReceived(t, req, key))
			return trAnswer(req, status, w.header, nil), nil
		}))
		err := trFail(t, tr, trRequest(t, "GET", "http://a.example/", nil))
		txIs(t, err, sealhttp.CodeMalformed, status, sealhttp.ErrUnauthenticated, sealhttp.ErrResponseNotOpened, sealhttp.ErrOutcomeUnknown)
	}
}

// txFlip changes the first letter of a byte sequence in the field.
func txFlip(h http.Header, before string) {
	line := []byte(h.Get("Sealed-Exchange"))
	i := bytes.Index(line, []byte(before)) + len(before)
	if line[i] == 'A' {
		line[i] = 'B'
	} else {
		line[i] = 'A'
	}
	h.Set("Sealed-Exchange", string(line))
}

// txRecorder is httptest.ResponseRecorder without rules.
type txRecorder struct {
	header http.Header
	status int
	bytes.Buffer
}

func (w *txRecorder) Header() http.Header    { return w.header }
func (w *txRecorder) WriteHeader(status int) { w.status = status }

// txReceived opens a request that a base transport was given, as a server would get it.
func txReceived(t testing.TB, req *http.Request, key *seal.PrivateKey) *txRequest {
	t.Helper()
	r := req.Clone(req.Context())
	r.RequestURI = req.URL.RequestURI()
	q, err := txOpen(r, key)
	if err == nil {
		err = q.read()
	}
	if err != nil {
		t.Error(err)
	}
	return q
}

// A caller with private keys takes what is sealed to one of them only.
func TestExchangeCallerKeys(t *testing.T) {
	first, second, unknown := trDefaultKey(t), trKey(t, seal.P256AES256GCM, seal.WithoutPrefix()), trDefaultKey(t)
	keys := []sealhttp.TransportOption{sealhttp.WithPrivateKeys(first, second)}
	unopened := []error{sealhttp.ErrUnauthenticated, sealhttp.ErrResponseNotOpened, sealhttp.ErrOutcomeUnknown}
	refused := []error{sealhttp.ErrRefused, sealhttp.ErrOutcomeUnknown}
	for name, row := range map[string]struct {
		opts   []sealhttp.TransportOption
		answer txAnswer
		key    uint32
		code   sealhttp.Code
		causes []error
	}{
		"the primary":              {keys, txAnswer{caller: first.Public()}, first.ID(), "", nil},
		"another":                  {keys, txAnswer{caller: second.Public()}, second.ID(), "", nil},
		"another, HEAD":            {keys, txAnswer{caller: second.Public(), bodiless: true}, second.ID(), "", nil},
		"one that is not held":     {keys, txAnswer{caller: unknown.Public()}, 0, sealhttp.CodeUnknownKey, unopened},
		"under another's id":       {keys, txAnswer{caller: first.Public(), ckid: second.ID()}, 0, sealhttp.CodeDecryptionFailed, unopened},
		"of another suite's id":    {keys, txAnswer{caller: second.Public(), ckid: first.ID()}, 0, sealhttp.CodeDecryptionFailed, unopened},
		"no keys":                  {nil, txAnswer{caller: first.Public()}, 0, sealhttp.CodeUnknownKey, unopened},
		"to none":                  {keys, txAnswer{}, 0, sealhttp.CodeNoClientKey, unopened},
		"to none, an error":        {keys, txAnswer{status: 500}, 0, sealhttp.CodeNoClientKey, unopened},
		"to none, another refusal": {keys, txAnswer{status: 413, code: "too_large"}, 0, sealhttp.CodeNoClientKey, unopened},
		"no_client_key":            {keys, txAnswer{status: 406, code: "no_client_key"}, 0, sealhttp.CodeNoClientKey, refused},
		"refusal to the key":       {keys, txAnswer{status: 413, code: "too_large", caller: first.Public()}, 0, sealhttp.CodeTooLarge, refused},
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				row.answer.body = "text"
				method := "POST"
				if row.answer.bodiless {
					method = "HEAD"
				}
				resp, server, err := txCall(t, h2, method, row.opts, txSealed(row.answer))
				server.check(t, 1)
				if row.causes != nil {
					if err == nil {
						t.Fatal("a response came")
					}
					txIs(t, err, row.code, max(row.answer.status, 200), row.causes...)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got := trRead(t, resp); got != "text" && !row.answer.bodiless {
					t.Errorf("got %q", got)
				}
				if info, ok := sealhttp.FromResponse(resp); !ok || info.CallerKeyID != row.key {
					t.Errorf("got %+v, %t, want key %d", info, ok, row.key)
				}
			})
		})
	}
	t.Run("key_store_unavailable", func(t *testing.T) {
		_, server, err := txCall(t, false, "POST", keys, txSealed(txAnswer{status: 503, code: "key_store_unavailable"}))
		txIs(t, err, sealhttp.CodeKeyStoreUnavailable, 503, refused...)
		server.check(t, 2)
	})
	t.Run("the source fails", func(t *testing.T) {
		down, asked := errors.New("the source is down"), 0
		set, err := seal.NewKeySet(first)
		if err != nil {
			t.Fatal(err)
		}
		source := sealhttp.ServerKeysFunc(func(context.Context) (*seal.KeySet, error) {
			if asked++; asked > 1 {
				return nil, down
			}
			return set, nil
		})
		_, _, err = txCall(t, false, "POST", []sealhttp.TransportOption{sealhttp.WithPrivateKeySource(source)}, txSealed(txAnswer{caller: first.Public()}))
		txIs(t, err, sealhttp.CodeKeyStoreUnavailable, 200, unopened...)
		if !errors.Is(err, down) {
			t.Errorf("%v is not the source's", err)
		}
	})
}

// A refusal that is authenticated is an error of its code.
func TestExchangeRefusals(t *testing.T) {
	refused := []error{sealhttp.ErrRefused, sealhttp.ErrOutcomeUnknown}
	unknown := []error{sealhttp.ErrOutcomeUnknown}
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for _, method := range []string{"GET", "POST", "HEAD"} {
			for code, causes := range map[sealhttp.Code][]error{
				sealhttp.CodeBindingRequired:            refused,
				sealhttp.CodeNoClientKey:                refused,
				sealhttp.CodeTooLarge:                   refused,
				sealhttp.CodeStale:                      refused, // without now
				sealhttp.CodePolicyUnavailable:          refused,
				sealhttp.CodeMalformed:                  refused,
				sealhttp.CodeUnknownKey:                 refused,
				sealhttp.CodeRequestIncomplete:          unknown,
				sealhttp.CodeResponseTooLarge:           unknown,
				sealhttp.CodeUnsupportedContentEncoding: unknown,
				"of_another_time":                       unknown,
			} {
				_, server, err := txCall(t, h2, method, nil, txSealed(txAnswer{status: 444, code: string(code), body: `{"now":"x"}`, bodiless: method == "HEAD"}))
				txIs(t, err, code, 444, causes...)
				server.check(t, 1)
			}
		}
	})
}

// A response that ends before its last record never looks whole.
func TestExchangeResponseCut(t *testing.T) {
	text := trBodyOf(100_000)
	for name, row := range map[string]struct {
		end  func(w http.ResponseWriter)
		want error
	}{
		"ended cleanly":     {func(http.ResponseWriter) {}, seal.ErrTruncated},
		"connection closed": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, seal.ErrTruncated},
		"half a record":     {func(w http.ResponseWriter) { _, _ = w.Write([]byte{0x80, 0, 0x40, 0x11, 1}) }, seal.ErrTruncated},
		"another record":    {func(w http.ResponseWriter) { _, _ = w.Write(append([]byte{20}, make([]byte, 20)...)) }, seal.ErrDecryptionFailed},
		"a record too long": {func(w http.ResponseWriter) { _, _ = w.Write([]byte{0x80, 1, 0, 0x11}) }, seal.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			trBothProtocols(t, func(t *testing.T, h2 bool) {
				resp, _, err := txCall(t, h2, "GET", nil, func(w http.ResponseWriter, q *txRequest) {
					txAnswer{body: text, cut: true}.write(w, q)
					_ = http.NewResponseController(w).Flush()
					row.end(w)
				})
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				if !errors.Is(err, row.want) || errors.Is(err, io.EOF) || string(got) != text {
					t.Errorf("got %d of %d bytes, %v", len(got), len(text), err)
				}
				if e := new(sealhttp.Error); row.want != seal.ErrTruncated && (!errors.As(err, &e) || !errors.Is(err, sealhttp.ErrResponseNotOpened) || e.Status != 200) {
					t.Errorf("%v is no *Error", err)
				}
				if n, again := resp.Body.Read(make([]byte, 1)); n != 0 || again != err {
					t.Errorf("then %d bytes, %v", n, again)
				}
			})
		})
	}
	t.Run("bytes behind the last record", func(t *testing.T) {
		resp, _, err := txCall(t, false, "GET", nil, func(w http.ResponseWriter, q *txRequest) {
			txAnswer{body: "text"}.write(w, q)
			_, _ = w.Write([]byte{0})
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); string(got) != "text" || !errors.Is(err, seal.ErrMalformed) || !errors.Is(err, sealhttp.CodeMalformed) {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// A response past the limit is an error, padding counted.
func TestExchangeResponseLimit(t *testing.T) {
	for _, row := range []struct {
		n, padded int
		limit     int64
		ok        bool
	}{
		{100, 0, 100, true}, {101, 0, 100, false}, {40_000, 0, 40_000, true}, {40_001, 0, 40_000, false}, {1, 100, 100, true}, {1, 101, 100, false}, {0, 101, 100, false},
	} {
		trBothProtocols(t, func(t *testing.T, h2 bool) {
			padding := seal.PaddingFunc(func(int64) int64 { return int64(row.padded) })
			resp, _, err := txCall(t, h2, "GET", []sealhttp.TransportOption{sealhttp.WithMaxStreamBytes(row.limit)}, txSealed(txAnswer{body: strings.Repeat("x", row.n), padding: padding}))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if (err == nil) != row.ok || row.ok && len(got) != row.n || int64(len(got)) > row.limit {
				t.Errorf("%+v: got %d bytes, %v", row, len(got), err)
			}
			if !row.ok {
				trIs(t, err, sealhttp.CodeResponseTooLarge, 200, sealhttp.ErrResponseNotOpened)
			}
		})
	}
}

// Close ends a Read that waits, and what comes after it is refused.
func TestExchangeResponseClose(t *testing.T) {
	txLeaks(t)
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		for range 20 {
			resp, _, err := txCall(t, h2, "GET", nil, func(w http.ResponseWriter, q *txRequest) {
				txAnswer{body: "text", cut: true}.write(w, q)
				_ = http.NewResponseController(w).Flush()
				<-q.r.Context().Done()
			})
			if err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 10)
			if n, err := resp.Body.Read(buf); string(buf[:n]) != "text" || err != nil {
				t.Errorf("got %q, %v", buf[:n], err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				if n, err := resp.Body.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
					t.Errorf("got %d bytes, %v", n, err)
				}
			})
			time.Sleep(time.Millisecond)
			wg.Go(func() { _ = resp.Body.Close() })
			wg.Go(func() { _ = resp.Body.Close() })
			wg.Wait()
			if n, err := resp.Body.Read(buf); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
				t.Errorf("after Close: %d bytes, %v", n, err)
			}
		}
	})
}

// The answers to two calls are swapped on their way.
func TestExchangeAnswersSwapped(t *testing.T) {
	key := trDefaultKey(t)
	m := trMiddleware(t, trKeys(t, key))
	trBothProtocols(t, func(t *testing.T, h2 bool) {
		srv, base := trServe(t, h2, m.Handler(trEcho))
		var meet sync.WaitGroup
		meet.Add(2)
		answers := make([]*http.Response, 2)
		var failures [2]error
		var wg sync.WaitGroup
		for i := range 2 {
			tr := txTransport(t, key.Public(), trBase(func(req *http.Request) (*http.Response, error) {
				var err error
				if answers[i], err = base.RoundTrip(req); err != nil {
					t.Error(err)
				}
				meet.Done()
				meet.Wait()
				return answers[1-i], nil
			}))
			wg.Go(func() {
				_, failures[i] = tr.RoundTrip(trRequest(t, "POST", srv.URL, strings.NewReader(fmt.Sprint("text ", i))))
			})
		}
		wg.Wait()
		for _, err := range failures {
			txIs(t, err, sealhttp.CodeDecryptionFailed, 200, sealhttp.ErrUnauthenticated, sealhttp.ErrResponseNotOpened, sealhttp.ErrOutcomeUnknown)
		}
	})
}

// The answer to the first call is given to the second, which asks for the same.
func TestExchangeAnswerRepeated(t *testing.T) {
	key := trDefaultKey(t)
	srv, base := trServe(t, false, trMiddleware(t, trKeys(t, key)).Handler(trEcho))
	var kept *http.Response
	var body []byte
	tr := txTransport(t, key.Public(), trBase(func(req *http.Request) (*http.Response, error) {
		if kept != nil {
			return trAnswer(req, kept.StatusCode, kept.Header, io.NopCloser(bytes.NewReader(body))), nil
		}
		resp, err := base.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		if body, err = io.ReadAll(resp.Body); err != nil {
			t.Error(err)
		}
		kept = trAnswer(req, resp.StatusCode, resp.Header.Clone(), nil)
		resp.Body = io.NopCloser(bytes.NewReader(body))
		return resp, nil
	}))
	if _, got := trDo(t, tr, trRequest(t, "POST", srv.URL, strings.NewReader("text"))); got != "text" {
		t.Errorf("got %q", got)
	}
	err := trFail(t, tr, trRequest(t, "POST", srv.URL, strings.NewReader("text")))
	txIs(t, err, sealhttp.CodeDecryptionFailed, 200, sealhttp.ErrUnauthenticated, sealhttp.ErrResponseNotOpened, sealhttp.ErrOutcomeUnknown)
}
