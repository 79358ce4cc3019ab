package integration_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// reply is a response as it is sent.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// hopWriter is a connection, and a stream of it.
type hopWriter interface {
	reply(*reply)
	cut(*reply) // but for the end of its body
	hangUp()    // closes the connection
	frame(func(framer *http2.Framer, stream uint32) error)
}

// serveHTTP1 serves one connection.
func (h *hop) serveHTTP1(conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		w := &hopConn{conn: conn}
		h.handle(w, &delivery{req.Method, req.RequestURI, req.Host, req.Header, body})
		if w.closed {
			return
		}
	}
}

// hopConn is a connection of HTTP/1.1.
type hopConn struct {
	conn   net.Conn
	closed bool
}

func (w *hopConn) reply(r *reply) {
	resp := http.Response{
		StatusCode: r.status, ProtoMajor: 1, ProtoMinor: 1, Header: r.header,
		Body: io.NopCloser(bytes.NewReader(r.body)), ContentLength: int64(len(r.body)),
	}
	_ = resp.Write(w.conn)
}

func (w *hopConn) cut(r *reply) {
	var whole bytes.Buffer
	resp := http.Response{
		StatusCode: r.status, ProtoMajor: 1, ProtoMinor: 1, Header: r.header,
		Body: io.NopCloser(bytes.NewReader(r.body)), ContentLength: int64(len(r.body)),
	}
	_ = resp.Write(&whole)
	_, _ = w.conn.Write(whole.Bytes()[:whole.Len()-1])
	w.hangUp()
}

func (w *hopConn) hangUp() {
	w.closed = true
	_ = w.conn.Close()
}

func (w *hopConn) frame(func(*http2.Framer, uint32) error) { panic("no frames in HTTP/1.1") }

// serveHTTP2 serves one connection, without TLS, frame by frame: net/http's own server
// refuses no streams.
func (h *hop) serveHTTP2(conn net.Conn) {
	r := bufio.NewReader(conn)
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(r, preface); err != nil {
		return
	}
	framer := http2.NewFramer(conn, r)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24})
	_ = framer.WriteWindowUpdate(0, 1<<24)
	requests := make(map[uint32]*delivery)
	w := &hopStream{conn: conn, framer: framer}
	w.encoder = hpack.NewEncoder(&w.block)
	for !w.closed {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		w.id = frame.Header().StreamID
		ended := false
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = framer.WritePing(true, f.Data)
			}
		case *http2.MetaHeadersFrame:
			d := &delivery{method: f.PseudoValue("method"), target: f.PseudoValue("path"), host: f.PseudoValue("authority"), header: make(http.Header)}
			for _, field := range f.RegularFields() {
				d.header.Add(field.Name, field.Value)
			}
			requests[w.id] = d
			ended = f.StreamEnded()
		case *http2.DataFrame:
			requests[w.id].body = append(requests[w.id].body, f.Data()...)
			ended = f.StreamEnded()
		}
		if ended {
			h.handle(w, requests[w.id])
		}
	}
}

// hopStream is a connection of HTTP/2, at one of its streams.
type hopStream struct {
	conn    net.Conn
	framer  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
	id      uint32
	closed  bool
}

func (w *hopStream) reply(r *reply) {
	w.headers(r)
	_ = w.framer.WriteData(w.id, true, r.body)
}

func (w *hopStream) cut(r *reply) {
	w.headers(r)
	_ = w.framer.WriteData(w.id, false, r.body[:max(len(r.body)-1, 0)])
	_ = w.framer.WriteRSTStream(w.id, http2.ErrCodeInternal)
}

func (w *hopStream) headers(r *reply) {
	w.block.Reset()
	_ = w.encoder.WriteField(hpack.HeaderField{Name: ":status", Value: strconv.Itoa(r.status)})
	for name, lines := range r.header {
		if name = strings.ToLower(name); name == "connection" || name == "transfer-encoding" || name == "content-length" {
			continue
		}
		for _, line := range lines {
			_ = w.encoder.WriteField(hpack.HeaderField{Name: name, Value: line})
		}
	}
	_ = w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: w.id, BlockFragment: w.block.Bytes(), EndHeaders: true})
}

func (w *hopStream) hangUp() {
	w.closed = true
	_ = w.conn.Close()
}

func (w *hopStream) frame(write func(*http2.Framer, uint32) error) { _ = write(w.framer, w.id) }
