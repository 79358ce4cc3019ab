package main

import (
	"crypto/rand"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"os"
)

//go:embed page
var pageFiles embed.FS

// newPage serves the page and its scripts. It is another server than the proxy on
// purpose: whoever serves the script could read along in it.
//
// The packages come out of node_modules as npm has put them there, after it has compared
// them with the hashes in package-lock.json. Nothing bundles or changes them, so a
// browser's debugger shows what was reviewed.
func newPage(js, api string, service *service, seen *sights) (http.Handler, error) {
	scripts := os.DirFS(js)
	if _, err := fs.Stat(scripts, "node_modules/@hpke/core"); err != nil {
		return nil, fmt.Errorf("the npm packages are missing; run npm ci --prefix %s first", js)
	}
	index, err := template.ParseFS(pageFiles, "page/index.html")
	if err != nil {
		return nil, err
	}
	static, err := fs.Sub(pageFiles, "page")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		nonce := rand.Text()
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "+
			"frame-ancestors 'none'; script-src 'self' 'nonce-"+nonce+"'; connect-src 'self' "+api)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = index.Execute(w, nonce) // the browser is gone
	})
	mux.Handle("GET /app.js", http.FileServerFS(static))
	mux.Handle("GET /style.css", http.FileServerFS(static))
	mux.Handle("GET /js/", http.StripPrefix("/js/", http.FileServerFS(scripts)))
	mux.HandleFunc("POST /session", func(w http.ResponseWriter, r *http.Request) {
		keyset, err := service.keyset()
		if err != nil {
			http.Error(w, "no keys", http.StatusInternalServerError)
			return
		}
		writeJSON(w, map[string]any{"api": api, "token": service.newToken(), "keyset": json.RawMessage(keyset)})
	})
	mux.HandleFunc("GET /calls/{id}", func(w http.ResponseWriter, r *http.Request) {
		call, ok := seen.get(r.PathValue("id"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		writeJSON(w, call)
	})
	return mux, nil
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the browser is gone
}
