package sealhttp

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// responseHead is the status and the header of a response from when the handler commits
// them until they are sent. Both sealing writers stand on it.
//
// They have no Unwrap, ReadFrom, Hijack or Push: each would let plaintext past. What
// http.ResponseController may do all the same is forwarded one by one.
type responseHead struct {
	w http.ResponseWriter
	// coding is the Content-Encoding that was there before the handler: announced by
	// what compresses further out, and so to be kept, as http.Error keeps it.
	coding []string

	// A handler may leave goroutines behind that still write.
	mu       sync.Mutex
	status   int         // 0 until committed
	header   http.Header // as it was then
	declared int64       // the handler's Content-Length, -1 for none
	written  int64       // bytes that the handler wrote or tried to
	closed   bool
}

func newResponseHead(w http.ResponseWriter) responseHead {
	return responseHead{w: w, coding: w.Header()["Content-Encoding"], declared: -1}
}

func (h *responseHead) Header() http.Header { return h.w.Header() }

// WriteHeader commits status and header, but for 1xx, under net/http's rules.
func (h *responseHead) WriteHeader(status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.status != 0 {
		return // the first wins
	}
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", status)) // as net/http
	}
	switch {
	case status == http.StatusSwitchingProtocols:
		// The connection is not for the handler to take. A caller that was told otherwise
		// would wait for ever.
		h.commit(http.StatusNotImplemented)
	case status < 200:
		h.inform(status)
	default:
		h.commit(status)
	}
}

// inform passes a 1xx response through, which is not the response yet.
func (h *responseHead) inform(status int) {
	header := h.w.Header()
	kept := make(http.Header, 3)
	for _, name := range [...]string{"Content-Type", "Content-Length", "Sealed-Content-Type"} {
		if lines, ok := header[name]; ok {
			kept[name] = lines
			delete(header, name)
		}
	}
	h.w.WriteHeader(status)
	maps.Copy(header, kept)
}

func (h *responseHead) commit(status int) {
	h.status = status
	h.header = h.w.Header().Clone()
	if n, err := strconv.ParseInt(h.header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		h.declared = n
	}
}

// restore makes the header what it was when it was committed: what was done to it since
// counts for nothing, and may be trailers, made of the plaintext.
func (h *responseHead) restore() {
	header := h.w.Header()
	clear(header)
	maps.Copy(header, h.header)
	h.header = header
}

// isEncodedInside reports whether the handler, or a compressor in front of it, has
// encoded the response.
func (h *responseHead) isEncodedInside() bool {
	return !slices.Equal(h.header["Content-Encoding"], h.coding) && isEncoded(h.header)
}

// takeEncodingBack makes Content-Encoding what it was before the handler: it may have set
// identity, which says nothing.
func (h *responseHead) takeEncodingBack() {
	if !slices.Equal(h.header["Content-Encoding"], h.coding) {
		encoded := isEncoded(h.header)
		delete(h.header, "Content-Encoding")
		if encoded && h.coding != nil {
			h.header["Content-Encoding"] = h.coding
		}
	}
}

// SetReadDeadline is for http.ResponseController.
func (h *responseHead) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(h.w).SetReadDeadline(t)
}

// SetWriteDeadline is for http.ResponseController.
func (h *responseHead) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(h.w).SetWriteDeadline(t)
}

// EnableFullDuplex is for http.ResponseController.
func (h *responseHead) EnableFullDuplex() error {
	return http.NewResponseController(h.w).EnableFullDuplex()
}

// hasContent reports whether a response of the status has content at all.
func hasContent(status int) bool {
	switch status {
	case http.StatusNoContent, http.StatusResetContent, http.StatusNotModified:
		return false
	}
	return status >= 200
}
