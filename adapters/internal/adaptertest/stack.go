package adaptertest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/go-chi/cors"

	"github.com/sealhttp/sealhttp"
)

// Authenticate is what all stacks have outside of sealhttp: it finds the account.
func Authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*r = *r.WithContext(sealhttp.ContextWithAccount(r.Context(), r.Header.Get("X-Account"))) // not a copy, whose form's files would be left behind
		next.ServeHTTP(w, r)
	})
}

// Place puts a middleware outside or inside, as the site's stack has it.
func Place[M any](s *Site, outside, inside Stack, m M) (out, in []M) {
	switch s.Stack {
	case outside:
		return []M{m}, nil
	case inside:
		return nil, []M{m}
	}
	return nil, nil
}

// Middlewares are those of the site's stack, for net/http and, where they have none of
// their own, for routers of http.Handlers.
func (s *Site) Middlewares() (outside, inside []func(http.Handler) http.Handler) {
	type pair struct {
		outside, inside Stack
		m               func(http.Handler) http.Handler
	}
	for _, p := range []pair{
		{RecoverOutside, RecoverInside, recoverer},
		{DumpOutside, DumpInside, s.dump},
		{LoggerOutside, LoggerInside, s.logger},
		{GzipOutside, GzipInside, compress},
		{CORSOutside, CORSInside, cors.Handler(CORS)},
		{LimiterOutside, LimiterInside, limit},
		{RequestIDOutside, RequestIDInside, requestID},
		{TimeoutOutside, TimeoutInside, timeout},
		{BasicAuthOutside, BasicAuthInside, basicAuth},
		{BearerAuthOutside, BearerAuthInside, bearerAuth},
		{SessionOutside, SessionInside, session},
		{BodyLimitOutside, BodyLimitInside, func(next http.Handler) http.Handler { return http.MaxBytesHandler(next, BodyLimit) }},
		{ErrorsOutside, ErrorsInside, errorPages},
	} {
		out, in := Place(s, p.outside, p.inside, p.m)
		outside, inside = append(outside, out...), append(inside, in...)
	}
	return outside, inside
}

func recoverer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				http.Error(w, "recovered", http.StatusInternalServerError)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// tee is a writer that also keeps the body.
type tee struct {
	http.ResponseWriter
	kept bytes.Buffer
}

func (w *tee) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *tee) Write(p []byte) (int, error) {
	w.kept.Write(p)
	return w.ResponseWriter.Write(p)
}

// dump notes whether the canary is in the bodies that it sees.
func (s *Site) dump(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := readAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(body))
		kept := &tee{ResponseWriter: w}
		next.ServeHTTP(kept, r)
		s.Dump(body, kept.kept.String())
	})
}

// Dump notes whether the canary is in the bodies that a body dump has seen.
func (s *Site) Dump(request, response string) {
	s.Note("dump", []any{"canary in the request", strings.Contains(request, Canary), "in the response", strings.Contains(response, Canary)})
}

// logger notes what a logger would write in front of and behind the call.
func (s *Site) logger(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kept := &tee{ResponseWriter: w}
		next.ServeHTTP(kept, r)
		s.Note("log", []any{r.Method, r.URL.String(), r.Host})
	})
}

// gzipWriter compresses all that comes.
type gzipWriter struct {
	http.ResponseWriter
	zw *gzip.Writer
}

func (w *gzipWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *gzipWriter) WriteHeader(status int) {
	if status >= 200 {
		w.Header().Del("Content-Length")
		w.Header().Set("Content-Encoding", "gzip")
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *gzipWriter) Write(p []byte) (int, error) {
	if w.Header().Get("Content-Encoding") == "" {
		w.WriteHeader(http.StatusOK)
	}
	return w.zw.Write(p)
}

func compress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept-Encoding")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			next.ServeHTTP(w, r)
			return
		}
		zw := gzip.NewWriter(w)
		next.ServeHTTP(&gzipWriter{w, zw}, r)
		_ = zw.Close()
	})
}

// limit lets nobody through.
func limit(http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		http.Error(w, "too many requests, "+Canary, http.StatusTooManyRequests)
	})
}

func requestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", r.Header.Get("X-Request-Id"))
		next.ServeHTTP(w, r)
	})
}

// timeout ends the context, and answers for a handler that then has not.
func timeout(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), SoonOver)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			w.WriteHeader(http.StatusGatewayTimeout)
		}
	})
}

func basicAuth(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != CredentialUser || password != CredentialPassword {
			w.Header().Set("Www-Authenticate", `Basic realm="test"`)
			http.Error(w, "who are you? "+Canary, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func bearerAuth(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+CredentialPassword {
			w.Header().Set("Www-Authenticate", "Bearer")
			http.Error(w, "who are you? "+Canary, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// sessionWriter sets the session's cookie at the last moment, when the header goes out.
type sessionWriter struct {
	http.ResponseWriter
	wrote bool
}

func (w *sessionWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *sessionWriter) WriteHeader(status int) {
	if !w.wrote && status >= 200 {
		w.wrote = true
		w.Header().Add("Set-Cookie", "session=s3; HttpOnly")
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *sessionWriter) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

func session(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&sessionWriter{ResponseWriter: w}, r)
	})
}

// pageWriter replaces the bodies of errors.
type pageWriter struct {
	http.ResponseWriter
	replaced bool
}

func (w *pageWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *pageWriter) WriteHeader(status int) {
	if status >= 400 {
		w.replaced = true
		w.Header().Set("Content-Type", "application/json")
		w.Header().Del("Content-Length")
		w.ResponseWriter.WriteHeader(status)
		_, _ = io.WriteString(w.ResponseWriter, `{"page":"`+Canary+`"}`)
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *pageWriter) Write(p []byte) (int, error) {
	if w.replaced {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

func errorPages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&pageWriter{ResponseWriter: w}, r)
	})
}

// Chain puts middlewares around a handler, the first one outermost.
func Chain(handler http.Handler, middlewares ...func(http.Handler) http.Handler) http.Handler {
	for i := len(middlewares) - 1; i >= 0; i-- {
		handler = middlewares[i](handler)
	}
	return handler
}

// RenderError renders a refusal in the form that an API has for all its errors.
func RenderError(w http.ResponseWriter, _ *http.Request, err error) {
	e, ok := errors.AsType[*sealhttp.Error](err)
	if !ok {
		e = &sealhttp.Error{Status: http.StatusInternalServerError}
	}
	writeJSON(w, e.Status, map[string]string{"rendered": string(e.Code)})
}
