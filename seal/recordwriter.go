package seal

import (
	"encoding/binary"
	"errors"
	"io"
)

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
