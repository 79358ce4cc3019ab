package events

import (
	"encoding/json"
	"errors"
	"net/http"
)

// Problem is an error as the API answers it (RFC 9457).
type Problem struct {
	Title  string            `json:"title"`
	Status int               `json:"status"`
	Detail string            `json:"detail,omitempty"`
	Errors map[string]string `json:"errors,omitempty"` // by field
}

// ProblemType is the media type of a [Problem].
const ProblemType = "application/problem+json"

// NewProblem makes the Problem of a status.
func NewProblem(status int, detail string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail}
}

// Error returns title and detail.
func (p *Problem) Error() string { return p.Title + ": " + p.Detail }

// ProblemOf returns the Problem in an error. One without is the server's own, and
// nobody's business.
func ProblemOf(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	return NewProblem(http.StatusInternalServerError, "")
}

// WriteProblem answers a call of net/http with an error.
func WriteProblem(w http.ResponseWriter, err error) {
	p := ProblemOf(err)
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(w, p.Status, ProblemType, p)
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a caller that is gone needs no answer
}
