package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"

	"github.com/sealhttp/sealhttp"
)

// Handlers are the API's handlers for net/http and chi. None of them knows whether
// its call is sealed.
type Handlers struct{ *Service }

// Authenticate finds out who calls, and lets nobody else in. It goes in front of
// sealhttp, which must know whose key and policy to look up.
func (h Handlers) Authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		account, err := h.Account(r)
		if err != nil {
			WriteProblem(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(sealhttp.ContextWithAccount(r.Context(), account)))
	})
}

// Create is POST /events.
func (h Handlers) Create(w http.ResponseWriter, r *http.Request) {
	var in NewEvent
	err := readJSON(r, &in)
	if err != nil {
		WriteProblem(w, err)
		return
	}
	event, err := h.Service.Create(sealhttp.Account(r.Context()), in)
	if err != nil {
		WriteProblem(w, err)
		return
	}
	w.Header().Set("Location", fmt.Sprintf("/events/%d", event.ID))
	writeJSON(w, http.StatusCreated, "application/json", event)
}

// List is GET /events.
func (h Handlers) List(w http.ResponseWriter, r *http.Request) {
	q, err := queryOf(r)
	if err != nil {
		WriteProblem(w, err)
		return
	}
	page, err := h.Service.List(sealhttp.Account(r.Context()), q)
	answer(w, page, err)
}

// Get is GET /events/{id}.
func (h Handlers) Get(w http.ResponseWriter, r *http.Request) {
	id, err := ParseID(r.PathValue("id"))
	if err != nil {
		WriteProblem(w, err)
		return
	}
	event, err := h.Service.Get(sealhttp.Account(r.Context()), id)
	answer(w, event, err)
}

// Delete is DELETE /events/{id}.
func (h Handlers) Delete(w http.ResponseWriter, r *http.Request) {
	id, err := ParseID(r.PathValue("id"))
	if err == nil {
		err = h.Service.Delete(sealhttp.Account(r.Context()), id)
	}
	if err != nil {
		WriteProblem(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// Search is POST /searches.
func (h Handlers) Search(w http.ResponseWriter, r *http.Request) {
	var in PersonQuery
	err := readJSON(r, &in)
	if err != nil {
		WriteProblem(w, err)
		return
	}
	page, err := h.Service.Search(sealhttp.Account(r.Context()), in)
	answer(w, page, err)
}

// PutKey is PUT /key.
func (h Handlers) PutKey(w http.ResponseWriter, r *http.Request) {
	keyset, err := io.ReadAll(r.Body)
	if err != nil {
		WriteProblem(w, bodyProblem(err))
		return
	}
	key, err := h.Register(sealhttp.Account(r.Context()), keyset)
	answer(w, key, err)
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		WriteProblem(w, err)
		return
	}
	writeJSON(w, http.StatusOK, "application/json", v)
}

func readJSON(r *http.Request, v any) error {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return NewProblem(http.StatusUnsupportedMediaType, "send application/json")
	}
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		return bodyProblem(err)
	}
	return nil
}

func bodyProblem(err error) error {
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return NewProblem(http.StatusRequestEntityTooLarge, err.Error())
	}
	return NewProblem(http.StatusBadRequest, err.Error())
}

func queryOf(r *http.Request) (q Query, err error) {
	values := r.URL.Query()
	if v := values.Get("after"); v != "" {
		if q.After, err = ParseID(v); err != nil {
			return q, err
		}
	}
	if v := values.Get("limit"); v != "" {
		if q.Limit, err = strconv.Atoi(v); err != nil {
			return q, NewProblem(http.StatusBadRequest, "limit is a number")
		}
	}
	return q, nil
}

// ParseID reads an event's id. What is none names no event.
func ParseID(s string) (int64, error) {
	id, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, NewProblem(http.StatusNotFound, "no such event")
	}
	return id, nil
}
