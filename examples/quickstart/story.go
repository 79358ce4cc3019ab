package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/sealhttp/sealhttp"
)

// story notes what each party sees of one call, and prints it in order.
type story struct {
	out io.Writer
	n   int

	mu    sync.Mutex // the parties run on goroutines of their own
	notes []note
}

type note struct {
	who, what string
	body      []byte
}

func (s *story) title(text string) {
	s.n++
	fmt.Fprintf(s.out, "%d. %s\n", s.n, text)
}

func (s *story) see(who, what string, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, note{who, what, body})
}

// handler is the API's: it has never heard of encryption.
func (s *story) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.see("handler saw", r.Header.Get("Content-Type"), body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"stored":%d,"for":"Ada L."}`, len(body))
	})
}

// intermediary is a reverse proxy that reads all that it passes on.
func (s *story) intermediary(service string) http.Handler {
	target, err := url.Parse(service)
	if err != nil {
		panic(err) // from httptest
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			body, _ := io.ReadAll(r.In.Body)
			r.Out.Body = io.NopCloser(bytes.NewReader(body))
			s.see("proxy saw", r.In.Method+" "+r.In.URL.Path+" "+r.In.Header.Get("Content-Type"), body)
		},
		ModifyResponse: func(resp *http.Response) error {
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				return err
			}
			resp.Body = io.NopCloser(bytes.NewReader(body))
			s.see("proxy saw", fmt.Sprintf("%d %s", resp.StatusCode, resp.Header.Get("Content-Type")), body)
			return nil
		},
	}
	return proxy
}

// call sends a body as JSON with any http.Client: whether it is sealed is the
// business of its Transport.
func (s *story) call(client *http.Client, account, url, body string) error {
	req, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.SetBasicAuth(account, "secret")
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	s.print("caller sent", "application/json", []byte(body))
	s.printCall()
	what := fmt.Sprintf("%d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	if info, ok := sealhttp.FromResponse(resp); ok {
		what += fmt.Sprintf(" (opened with key %d)", info.CallerKeyID)
	}
	s.print("caller got", what, answer)
	return nil
}

// printCall prints and forgets what was noted of the call.
func (s *story) printCall() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.notes {
		s.print(n.who, n.what, n.body)
	}
	s.notes = nil
}

func (s *story) print(who, what string, body []byte) {
	fmt.Fprintf(s.out, "   %-12s %s\n", who, what)
	fmt.Fprintf(s.out, "   %-12s   %s\n", "", show(body))
	if who == "caller got" {
		fmt.Fprintln(s.out)
	}
}

// show gives text as it is, and anything else as its first bytes in hex.
func show(body []byte) string {
	const first = 24
	if utf8.Valid(body) {
		return strings.TrimSpace(string(body))
	}
	return fmt.Sprintf("%x... (%d bytes)", body[:min(first, len(body))], len(body))
}
