package adaptertest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/go-chi/cors"

	"github.com/sealhttp/sealhttp"
)

// Route is one of an application's, with the handler that net/http and routers of
// http.Handlers have for it.
type Route struct {
	Method, Path string // as http.ServeMux has them
	Handler      http.HandlerFunc
}

// Person is what the routes bind, with the tags of the routers' binders.
type Person struct {
	XMLName xml.Name `json:"-" xml:"person" form:"-"`
	Name    string   `json:"name" xml:"name" form:"name" query:"name" binding:"required,max=64" validate:"required,max=64"`
	Age     int      `json:"age" xml:"age" form:"age" query:"age" binding:"min=0,max=150" validate:"min=0,max=150"`
}

// Valid is the validation of routers that have none.
func (p *Person) Valid() error {
	if p.Name == "" || len(p.Name) > 64 || p.Age < 0 || p.Age > 150 {
		return errors.New("the person is not valid: " + Canary)
	}
	return nil
}

// Greeting is what the routes answer about a person.
type Greeting struct {
	XMLName xml.Name `json:"-" xml:"greeting"`
	Text    string   `json:"text" xml:"text"`
	Age     int      `json:"age" xml:"age"`
}

// Greet makes the answer.
func Greet(p Person) Greeting {
	return Greeting{Text: "Hello, " + p.Name + " <" + Canary + ">", Age: p.Age}
}

// Page is the template of the HTML route.
var Page = template.Must(template.New("page").Parse(`<!doctype html><p>{{.}}</p>`))

// Uploads describes the files and fields of a form, after its parsing.
func Uploads(form *multipart.Form) map[string]any {
	told := map[string]any{"fields": form.Value, "canary": Canary}
	for name, files := range form.File {
		for i, header := range files {
			f, err := header.Open()
			if err != nil {
				told[name] = err.Error()
				continue
			}
			content := readAll(f)
			_ = f.Close()
			told[fmt.Sprint(name, i)] = []any{header.Filename, header.Header.Get("Content-Type"), len(content), strings.Contains(content, Canary)}
		}
	}
	return told
}

// Routes are all of an application's.
func (s *Site) Routes() []Route {
	return []Route{
		{"POST", "/json", s.bindJSON},
		{"PUT", "/json", s.bindJSON},
		{"PATCH", "/json", s.bindJSON},
		{"POST", "/form", s.bindForm},
		{"POST", "/upload", s.upload},
		{"POST", "/xml", s.bindXML},
		{"GET", "/query", s.bindQuery},
		{"GET", "/users/{id}/notes/{note}", s.params},
		{"GET", "/text", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprint(w, "Hello from ", Canary)
		}},
		{"HEAD", "/text", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			fmt.Fprint(w, "Hello from ", Canary)
		}},
		{"OPTIONS", "/text", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", "GET, HEAD, OPTIONS")
			w.WriteHeader(http.StatusNoContent)
		}},
		{"GET", "/html", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			s.Note("template", Page.Execute(w, Canary))
		}},
		{"GET", "/blob", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "image/png")
			w.Header().Set("Content-Length", strconv.Itoa(len(Canary)))
			_, err := io.WriteString(w, Canary)
			s.Note("write", err)
		}},
		{"GET", "/stream", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/csv")
			n, err := io.Copy(w, bytes.NewReader(Large[:100_000]))
			s.Note("copy", []any{n, err})
		}},
		{"GET", "/file", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, s.File) }},
		{"GET", "/attachment", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Disposition", `attachment; filename="report.txt"`)
			http.ServeFile(w, r, s.File)
		}},
		{"GET", "/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/text", http.StatusFound) }},
		{"POST", "/redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/text", http.StatusSeeOther)
		}},
		{"DELETE", "/text", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }},
		{"GET", "/content", s.Content},
		{"HEAD", "/content", s.Content},
		{"GET", "/events", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 3 {
				fmt.Fprintf(w, "id: %d\ndata: %s\n\n", i, Canary)
				s.Note("flush", http.NewResponseController(w).Flush())
			}
		}},
		{"GET", "/fail", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Kept", "yes")
			http.Error(w, "no: "+Canary, http.StatusConflict)
		}},
		{"POST", "/fail", func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "no: "+Canary, http.StatusUnprocessableEntity)
		}},
		{"GET", "/broken", func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		}},
		{"GET", "/forbidden", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) }},
		{"GET", "/panic", func(http.ResponseWriter, *http.Request) { panic("a bug: " + Canary) }},
		{"GET", "/panic-declared", s.PanicDeclared},
		{"GET", "/panic-after-write", s.PanicAfterWrite},
		{"GET", "/panic-abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"POST", "/echo", func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), statusOfRead(err))
				return
			}
			w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
			_, _ = w.Write(body)
		}},
		{"POST", "/half", s.half},
		{"POST", "/unread", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, Canary) }},
		{"GET", "/late", s.Late},
		{"GET", "/hijack", s.Hijack},
		{"GET", "/websocket", s.WebSocket},
		{"GET", "/nothing", func(http.ResponseWriter, *http.Request) {}},
		{"GET", "/accepted", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusAccepted) }},
		{"GET", "/reset", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusResetContent)
		}},
		{"GET", "/header", s.manyFields},
		{"GET", "/trailers", s.Trailers},
		{"GET", "/hints", s.Hints},
		{"GET", "/large", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, err := w.Write(Large)
			s.Note("write", err)
		}},
		{"GET", "/twice", s.Twice},
		{"GET", "/short", s.Short},
		{"GET", "/long", s.Long},
		{"GET", "/sniffed", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "<html>"+Canary) }},
		{"GET", "/untyped", func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, Canary)
		}},
		{"GET", "/session", func(w http.ResponseWriter, r *http.Request) {
			visits := 1
			if cookie, err := r.Cookie("visits"); err == nil {
				n, _ := strconv.Atoi(cookie.Value)
				visits += n
			}
			http.SetCookie(w, &http.Cookie{Name: "visits", Value: strconv.Itoa(visits), Path: "/", HttpOnly: true})
			fmt.Fprint(w, Canary, " has come ", visits, " times")
		}},
		{"GET", "/control", s.Control},
		{"GET", "/slow", func(_ http.ResponseWriter, r *http.Request) { s.Slow(r) }},
		{"GET", "/slow-handler", s.slowHandler},
		{"GET", "/gzipped", s.Gzipped},
		{"GET", "/account", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, Canary, " for ", sealhttp.Account(r.Context()))
		}},
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// statusOfRead is the status of a failed read of a body.
func statusOfRead(err error) int {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

func (s *Site) bindJSON(w http.ResponseWriter, r *http.Request) {
	var p Person
	err := json.NewDecoder(r.Body).Decode(&p)
	if err == nil {
		err = p.Valid()
	}
	if err != nil {
		writeJSON(w, statusOfRead(err), map[string]string{"error": err.Error() + Canary})
		return
	}
	w.Header().Set("Location", "/people/1")
	writeJSON(w, http.StatusCreated, Greet(p))
}

func (s *Site) bindForm(w http.ResponseWriter, r *http.Request) {
	s.Note("parse", r.ParseForm())
	age, err := strconv.Atoi(r.PostForm.Get("age"))
	s.Note("age", err)
	writeJSON(w, http.StatusOK, Greet(Person{Name: r.PostForm.Get("name"), Age: age}))
}

func (s *Site) upload(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseMultipartForm(32 << 10); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeJSON(w, http.StatusOK, Uploads(r.MultipartForm))
}

func (s *Site) bindXML(w http.ResponseWriter, r *http.Request) {
	var p Person
	if err := xml.NewDecoder(r.Body).Decode(&p); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(Greet(p))
}

func (s *Site) bindQuery(w http.ResponseWriter, r *http.Request) {
	age, err := strconv.Atoi(r.URL.Query().Get("age"))
	s.Note("age", err)
	writeJSON(w, http.StatusOK, Greet(Person{Name: r.URL.Query().Get("name"), Age: age}))
}

func (s *Site) params(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, Canary, ": ", r.PathValue("id"), " ", r.PathValue("note"))
}

func (s *Site) half(w http.ResponseWriter, r *http.Request) {
	b := make([]byte, 6)
	n, err := io.ReadFull(r.Body, b)
	s.Note("read", []any{n, err, string(b[:n])})
	fmt.Fprint(w, Canary)
}

// Content is http.ServeContent, which knows ranges and conditions.
func (s *Site) Content(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Etag", `"v1"`)
	content := strings.NewReader("0123456789 " + Canary + " " + strings.Repeat("x", 100))
	http.ServeContent(w, r, "content.txt", time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC), content)
}

// PanicDeclared panics when the length of a response is declared.
func (s *Site) PanicDeclared(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	panic("a bug: " + Canary)
}

// PanicAfterWrite panics when half of a response is written.
func (s *Site) PanicAfterWrite(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, "half of "+Canary)
	panic("a bug: " + Canary)
}

// Late leaves a goroutine behind that writes when the caller has its response.
func (s *Site) Late(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, Canary)
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-s.Received
		for range 3 {
			_, err := io.WriteString(w, Canary)
			s.Note("late", errors.Is(err, sealhttp.ErrCallClosed))
			if f, ok := w.(http.Flusher); ok {
				f.Flush()
			}
		}
	}()
	s.LateDone = done
}

// Hijack takes the connection and answers on it.
func (s *Site) Hijack(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.Note("hijack is not supported", errors.Is(err, http.ErrNotSupported))
		http.Error(w, "no hijack: "+Canary, http.StatusNotImplemented)
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(Canary), Canary)
}

// WebSocket upgrades the connection and sends every message back.
func (s *Site) WebSocket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	for {
		kind, message, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if err := conn.Write(ctx, kind, message); err != nil {
			return
		}
	}
}

func (s *Site) manyFields(w http.ResponseWriter, _ *http.Request) {
	ManyFields(w.Header())
	fmt.Fprint(w, Canary)
}

// ManyFields sets fields of all kinds.
func ManyFields(h http.Header) {
	h["X-Many"] = []string{"one", "two"}
	h.Add("Set-Cookie", "a=1")
	h.Add("Set-Cookie", "b=2; Secure")
	h.Set("Cache-Control", "public, max-age=60")
	h.Add("Vary", "Origin")
	h.Set("Etag", `"v7"`)
	h.Set("Content-Language", "en")
	h.Set("Content-Md5", "of the plaintext")
	h.Set("Link", "</next>; rel=next")
	h.Set("X-RateLimit-Remaining", "41")
	h.Set("Content-Type", "application/vnd.api+json; charset=utf-8")
}

// Trailers has trailers of both kinds. They are in plaintext by their nature.
func (s *Site) Trailers(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Trailer", "X-Checksum")
	_, _ = io.WriteString(w, Canary)
	w.Header().Set("X-Checksum", Canary)
	w.Header().Set(http.TrailerPrefix+"X-Late", Canary)
}

// Hints sends a 103 in front of its response.
func (s *Site) Hints(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, Canary)
}

// Twice sets the status and the header twice.
func (s *Site) Twice(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("X-Late", "no")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, Canary)
	w.Header().Set("X-Late", "yes")
	w.WriteHeader(http.StatusConflict)
}

// Short writes less than it declares.
func (s *Site) Short(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, Canary)
}

// Long writes more than it declares.
func (s *Site) Long(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", strconv.Itoa(len(Canary)))
	_, err := io.WriteString(w, Canary)
	s.Note("in bounds", err)
	_, err = io.WriteString(w, Canary)
	s.Note("out of bounds", err)
}

// Control uses what http.ResponseController has.
func (s *Site) Control(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	s.Note("read deadline", control.SetReadDeadline(time.Now().Add(patience)))
	s.Note("write deadline", control.SetWriteDeadline(time.Now().Add(patience)))
	if r.ProtoMajor == 1 {
		s.Note("full duplex", control.EnableFullDuplex())
	}
	_, _ = io.WriteString(w, Canary)
	s.Note("flush", control.Flush())
}

// Gzipped compresses whatever Accept-Encoding says.
func (s *Site) Gzipped(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Etag", `"gzipped"`)
	zw := gzip.NewWriter(w)
	_, _ = io.WriteString(zw, Canary)
	_ = zw.Close()
}

// Slow takes longer than it may. Under http.TimeoutHandler, which takes what comes first,
// it takes until the caller has its response.
func (s *Site) Slow(r *http.Request) {
	<-r.Context().Done()
	if s.Stack == TimeoutHandler {
		<-s.Received
	}
}

func (s *Site) slowHandler(w http.ResponseWriter, r *http.Request) {
	http.TimeoutHandler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		<-s.Received
	}), time.Millisecond, "late: "+Canary).ServeHTTP(w, r)
}

// SoonOver is the timeout of the stacks that have one: long enough for a slow machine to
// get to the handler, which then waits for its end.
const SoonOver = 300 * time.Millisecond

// CORS is what the stacks with CORS allow.
var CORS = cors.Options{
	AllowedOrigins:   []string{"https://app.example.com"},
	AllowedMethods:   []string{"GET", "POST", "PUT", "DELETE"},
	AllowedHeaders:   append([]string{"Authorization", "X-Account"}, sealhttp.CORSHeaders.Allow...),
	ExposedHeaders:   sealhttp.CORSHeaders.Expose,
	AllowCredentials: true,
	MaxAge:           600,
}
