package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// Records is one body of an exchange, as it is sent: records of ciphertext, each
// behind its length, and in each a delimiter that says whether more follow
// (RFC 8188, section 2). The sequence number, which makes the nonce, orders them.
//
// A Records is for one writer or one reader.
type Records struct {
	context  *hpkeContext
	nonce    [nonceSize]byte
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
	r.nonce = r.context.baseNonce
	tail := r.nonce[nonceSize-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^r.sequence)
	r.sequence++
	return r.nonce[:]
}

// recordBuffers hold one record each, with its length, and half of the next.
var recordBuffers = sync.Pool{New: func() any { b := make([]byte, recordBuffer); return &b }}

const recordBuffer = 24 << 10
