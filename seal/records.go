package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Records is one body of an exchange, as it is sent: records of ciphertext, each
// behind its length, and in each a delimiter that says whether more follow
// (RFC 8188, section 2). The sequence number, which makes the nonce, orders them.
//
// A Records is for one writer or one reader.
type Records struct {
	context  *hpkeContext
	nonce    [12]byte
	sequence uint64
}

// The bounds of a record, in bytes.
const (
	// MaxRecordData is how much data a [RecordWriter] puts into one record.
	MaxRecordData = 16384
	// minRecord is the ciphertext of a record with a delimiter and nothing else.
	minRecord = 1 + tagSize
	// maxRecord is the longest ciphertext that is read.
	maxRecord = 65536 + tagSize
	// maxLengthLen is the longest that a length takes: RFC 9000, section 16.
	maxLengthLen = 8
	// writtenLengthLen is the longest of a length of at most maxRecord.
	writtenLengthLen = 4
)

// The delimiters of RFC 8188, section 2.
const (
	moreRecords = 0x01
	lastRecord  = 0x02
)

// What reading records can end with, besides io.EOF after the last one, errors of
// the reader below, and [ErrDecryptionFailed]. All errors are sticky.
var (
	// ErrTruncated is a body that ends before its last record. It is not io.EOF, and
	// wraps nothing that is.
	ErrTruncated = errors.New("the sealed body ends before its last record")
	// ErrWriterClosed is returned by a [RecordWriter] after Close or Abort, and by a
	// [RecordReader] after Close.
	ErrWriterClosed = errors.New("the sealed body has ended")
)

// errRecord is ErrMalformed, with the rule that was broken.
func errRecord(rule string) error { return fmt.Errorf("%w: %s", ErrMalformed, rule) }

// next returns the nonce of the next record.
func (r *Records) next() []byte {
	base := r.context.baseNonce
	n := copy(r.nonce[:], base)
	tail := r.nonce[n-8 : n]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^r.sequence)
	r.sequence++
	return r.nonce[:n]
}

// recordBuffers hold one record each, with its length, and half of the next.
var recordBuffers = sync.Pool{New: func() any { b := make([]byte, recordBuffer); return &b }}

const recordBuffer = 24 << 10

// RecordWriter seals what is written to it, in records of [MaxRecordData] bytes. It
// keeps one record in memory and seals it in place. It is for use by one goroutine at
// a time.
type RecordWriter struct {
	records *Records
	begin   func() (*Records, error)
	w       io.Writer
	pad     Padding
	buf     *[]byte
	n       int   // bytes of data in buf
	since   int64 // bytes of data since the last flush
	err     error
}

// recordStart is where data begins in a writer's buffer: the length goes before it.
const recordStart = writtenLengthLen

// NewWriter returns a writer of the records, which are written to w, each with one
// Write. pad says how lengths are hidden, nil for not at all.
func (r *Records) NewWriter(w io.Writer, pad Padding) *RecordWriter {
	return NewRecordWriter(w, pad, func() (*Records, error) { return r, nil })
}

// NewRecordWriter returns a writer whose records begin is asked for once, right before
// the first is sealed: what goes before a body may depend on how the body starts.
// begin may look at [RecordWriter.Buffered].
func NewRecordWriter(w io.Writer, pad Padding, begin func() (*Records, error)) *RecordWriter {
	return &RecordWriter{begin: begin, w: w, pad: pad, buf: recordBuffers.Get().(*[]byte)}
}

// Write adds data. A full record is sent when more data comes, since the last record
// must say that it is.
func (w *RecordWriter) Write(p []byte) (int, error) { return write(w, p) }

// WriteString is Write, without a copy to bytes.
func (w *RecordWriter) WriteString(s string) (int, error) { return write(w, s) }

func write[T string | []byte](w *RecordWriter, p T) (written int, err error) {
	for w.err == nil && len(p) > 0 {
		if w.n == w.full() {
			if err := w.cut(MaxRecordData, 0); err != nil {
				return written, err
			}
		}
		n := copy((*w.buf)[recordStart+w.n:recordStart+w.full()], p)
		w.n += n
		w.since += int64(n)
		written += n
		p = p[n:]
	}
	return written, w.err
}

// Buffered returns the data that was written and not yet sent. The slice is valid
// until the next call of a method.
func (w *RecordWriter) Buffered() []byte {
	if w.buf == nil {
		return nil
	}
	return (*w.buf)[recordStart:][:w.n]
}

// Flush sends what was written, if anything was, in a record of its own.
func (w *RecordWriter) Flush() error {
	if w.err != nil || w.n == 0 {
		return w.err
	}
	return w.end(moreRecords)
}

// Close sends the last record, of no data if there is none, and frees the buffer.
// It does not close the writer below. A second Close does nothing.
func (w *RecordWriter) Close() error {
	if w.err != nil {
		if errors.Is(w.err, ErrWriterClosed) {
			return nil
		}
		return w.err
	}
	err := w.end(lastRecord)
	w.Abort()
	return err
}

// Abort frees the buffer and sends nothing: the body stays without its last record,
// and whoever reads it gets [ErrTruncated].
func (w *RecordWriter) Abort() {
	w.fail(ErrWriterClosed)
}

func (w *RecordWriter) fail(err error) {
	if w.err == nil {
		w.err = err
	}
	if w.buf != nil {
		clear(*w.buf)
		recordBuffers.Put(w.buf)
		w.buf = nil
	}
	w.n = 0
}

// padding returns the zeros for the stretch that ends here.
func (w *RecordWriter) padding() int {
	since := w.since
	w.since = 0
	if w.pad == nil {
		return 0
	}
	return int(min(max(w.pad.PaddedLen(since), since)-since, maxPadding))
}

// end sends what ends a stretch, with its zeros. It cuts records as if the zeros were
// data: lengths of records are seen by all, and one record of 32,768 bytes would tell
// a short stretch from one that fills two of 16,384.
func (w *RecordWriter) end(delimiter byte) error {
	if err := w.start(); err != nil { // while Buffered has it all
		return err
	}
	size := w.n + w.padding()
	for full := (size - 1) / MaxRecordData; full > 0 && w.n > full; full-- {
		n := min(w.n-full, MaxRecordData) // a byte is kept for each record that follows
		if err := w.cut(n, MaxRecordData-n); err != nil {
			return err
		}
		size -= MaxRecordData
	}
	return w.send(delimiter, size-w.n)
}

// held is how much data beyond a full record a writer keeps, if it pads: a byte for
// each record that the zeros of a stretch may take (see [Padding]).
const held = maxPadding/MaxRecordData + 1

// full is how much data is buffered before a record must be sent.
func (w *RecordWriter) full() int {
	if w.pad == nil {
		return MaxRecordData
	}
	return MaxRecordData + held
}

// cut sends the first n bytes of data with zeros, and keeps the others, of which
// there are at most held.
func (w *RecordWriter) cut(n, zeros int) error {
	var rest [held]byte
	kept := copy(rest[:], (*w.buf)[recordStart+n:recordStart+w.n])
	w.n = n
	if err := w.send(moreRecords, zeros); err != nil {
		return err
	}
	w.n = copy((*w.buf)[recordStart:], rest[:kept])
	return nil
}

// start asks for the records, once.
func (w *RecordWriter) start() (err error) {
	if w.records == nil {
		if w.records, err = w.begin(); err != nil {
			w.fail(err)
		}
	}
	return err
}

// send seals and writes the record in the buffer, with a delimiter and zeros.
func (w *RecordWriter) send(delimiter byte, zeros int) error {
	if err := w.start(); err != nil {
		return err
	}
	buf := *w.buf
	size := w.n + 1 + zeros
	if need := recordStart + size + tagSize; need > len(buf) {
		buf = make([]byte, need) // for this record only
		copy(buf, (*w.buf)[:recordStart+w.n])
	}
	plaintext := buf[recordStart:][:size]
	plaintext[w.n] = delimiter
	clear(plaintext[w.n+1:])
	start := recordStart - lengthLen(size+tagSize)
	putLength(buf[start:recordStart], size+tagSize)
	record := w.records.context.aead.Seal(buf[:recordStart], w.records.next(), plaintext, nil)[start:]
	w.n = 0
	n, err := w.w.Write(record)
	if err == nil && n < len(record) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.fail(err)
	}
	return err
}

// lengthLen returns how many bytes a length takes at least.
func lengthLen(n int) int {
	switch {
	case n < 1<<6:
		return 1
	case n < 1<<14:
		return 2
	}
	return 4
}

// putLength fills b with a variable-length integer (RFC 9000, section 16).
func putLength(b []byte, n int) {
	switch len(b) {
	case 1:
		b[0] = byte(n)
	case 2:
		binary.BigEndian.PutUint16(b, uint16(n)|1<<14)
	case 4:
		binary.BigEndian.PutUint32(b, uint32(n)|2<<30)
	}
}

// RecordReader opens records. It gives no byte of a record before all of that record
// was authenticated, and reports io.EOF only when the reader below has ended
// after the last record. It keeps one record in memory and opens it in place. It
// is for use by one goroutine at a time.
type RecordReader struct {
	records *Records
	r       io.Reader
	buf     []byte
	pooled  *[]byte
	from    int    // where the bytes that were read and not yet opened begin
	to      int    // where they end
	data    []byte // opened and not yet given
	last    bool
	padded  int64 // see Padded
	below   error // of r, the reader below
	err     error
}

// NewReader returns a reader of the data in the records that from gives.
func (r *Records) NewReader(from io.Reader) *RecordReader {
	pooled := recordBuffers.Get().(*[]byte)
	return &RecordReader{records: r, r: from, buf: *pooled, pooled: pooled}
}

// Read reads data. Its errors are [ErrMalformed] for a record that breaks a rule, and
// bytes after the last one, [ErrDecryptionFailed], [ErrTruncated], and those of the
// reader below.
func (r *RecordReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.data) == 0 {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}

// WriteTo is for io.Copy, which then needs no buffer of its own.
func (r *RecordReader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		if len(r.data) == 0 {
			if err := r.fill(); err == io.EOF {
				return written, nil
			} else if err != nil {
				return written, err
			}
		}
		n, err := w.Write(r.data)
		if n < len(r.data) && err == nil {
			err = io.ErrShortWrite
		}
		written += int64(n)
		r.data = r.data[n:]
		if err != nil {
			return written, err
		}
	}
}

// Padded returns how many bytes of data and padding were opened so far: what a limit
// on a body counts, so that zeros cost a sender what data does.
func (r *RecordReader) Padded() int64 { return r.padded }

// Close frees the buffer, cleared. It does not close the reader below.
func (r *RecordReader) Close() error {
	r.fail(ErrWriterClosed)
	return nil
}

func (r *RecordReader) fail(err error) error {
	if r.err == nil {
		r.err = err
	}
	r.data = nil
	if r.buf != nil {
		clear(r.buf)
		r.buf = nil
		recordBuffers.Put(r.pooled)
		r.pooled = nil
	}
	return r.err
}

// fill opens the next record that has data.
func (r *RecordReader) fill() error {
	for r.err == nil && len(r.data) == 0 {
		if r.last {
			return r.end()
		}
		if err := r.open(); err != nil {
			return r.fail(err)
		}
	}
	return r.err
}

// open opens one record.
func (r *RecordReader) open() error {
	if err := r.need(1); err != nil {
		return err
	}
	lengthLen := 1 << (r.buf[r.from] >> 6)
	if err := r.need(lengthLen); err != nil {
		return err
	}
	n := readLength(r.buf[r.from:][:lengthLen])
	if n < minRecord || n > maxRecord {
		return errRecord("the length of a record")
	}
	r.from += lengthLen
	if err := r.need(int(n)); err != nil {
		return err
	}
	ciphertext := r.buf[r.from:][:n]
	r.from += int(n)
	plaintext, err := r.records.context.aead.Open(ciphertext[:0], r.records.next(), ciphertext, nil)
	if err != nil {
		return ErrDecryptionFailed
	}
	r.padded += int64(len(plaintext)) - 1
	at := len(plaintext) - 1
	for at >= 0 && plaintext[at] == 0 {
		at--
	}
	switch {
	case at < 0:
		return errRecord("no delimiter")
	case plaintext[at] == lastRecord:
		r.last = true
	case plaintext[at] != moreRecords:
		return errRecord("another delimiter")
	case at == 0:
		return errRecord("a record without data that is not the last")
	}
	r.data = plaintext[:at]
	return nil
}

func readLength(b []byte) uint64 {
	n := uint64(b[0] & 0x3f)
	for _, c := range b[1:] {
		n = n<<8 | uint64(c)
	}
	return n
}

// need reads until n bytes are there that were not opened.
func (r *RecordReader) need(n int) error {
	if r.to-r.from >= n {
		return nil
	}
	if r.from+n > len(r.buf) {
		room := r.buf
		if n > len(r.buf) {
			room = make([]byte, maxLengthLen+maxRecord)
		}
		r.to, r.from = copy(room, r.buf[r.from:r.to]), 0
		if n > len(r.buf) {
			clear(r.buf)
			r.buf = room
		}
	}
	for r.to-r.from < n {
		if r.below != nil {
			return cut(r.below)
		}
		r.read(r.buf[r.to:])
	}
	return nil
}

// read reads what there is. An error may come with bytes, which count first.
func (r *RecordReader) read(free []byte) {
	var n int
	n, r.below = r.r.Read(free)
	r.to += n
}

// cut is what an error of the reader below is within a body: its end is none of ours.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return fmt.Errorf("reading a sealed body: %w", err)
}

// end looks that nothing follows the last record.
func (r *RecordReader) end() error {
	for r.to == r.from {
		switch r.below {
		case nil:
			r.from, r.to = 0, 0
			r.read(r.buf)
		case io.EOF:
			return r.fail(io.EOF)
		default:
			return r.fail(cut(r.below))
		}
	}
	return r.fail(errRecord("bytes after the last record"))
}
