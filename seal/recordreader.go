package seal

import (
	"errors"
	"fmt"
	"io"
)

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
