package seal_test

import (
	"bytes"
	"crypto/hpke"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// forger seals records of whatever plaintext, with crypto/hpke, which the package's
// own writer would not.
type forger struct {
	sender *hpke.Sender
	server *seal.Exchange
}

func newForger(t testing.TB, sp spec) *forger {
	t.Helper()
	key := newKey(t, sp.suite)
	kem, err := hpke.NewKEM(sp.kem)
	if err != nil {
		t.Fatal(err)
	}
	public, err := kem.NewPublicKey(key.Public().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	aead, err := hpke.NewAEAD(sp.aead)
	if err != nil {
		t.Fatal(err)
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), aead, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &forger{sender: sender}
	if f.server, err = key.OpenExchange(enc, f.seal(t, nil), nil); err != nil {
		t.Fatal(err)
	}
	return f
}

// seal returns the ciphertext of the next record.
func (f *forger) seal(t testing.TB, plaintext []byte) []byte {
	t.Helper()
	ct, err := f.sender.Seal(nil, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return ct
}

// record returns the next record, with its length in the shortest form.
func (f *forger) record(t testing.TB, plaintext []byte) []byte {
	t.Helper()
	ct := f.seal(t, plaintext)
	return append(varint(uint64(len(ct)), 0), ct...)
}

// varint is RFC 9000, section 16, in size bytes, or in as few as hold n.
func varint(n uint64, size int) []byte {
	for i, bits := range []uint{6, 14, 30, 62} {
		if n < 1<<bits && (size == 0 || size == 1<<i) {
			all := binary.BigEndian.AppendUint64(nil, n|uint64(i)<<bits)
			return all[8-1<<i:]
		}
	}
	panic("it does not fit")
}

// cutRecords returns the records of a body, each with its length.
func cutRecords(t testing.TB, sealed []byte) (records [][]byte) {
	t.Helper()
	for len(sealed) > 0 {
		size := 1 << (sealed[0] >> 6)
		n := uint64(0)
		for i, b := range sealed[:size] {
			if i == 0 {
				b &= 0x3f
			}
			n = n<<8 | uint64(b)
		}
		if !bytes.Equal(sealed[:size], varint(n, 0)) {
			t.Fatalf("the length %x is not in its shortest form", sealed[:size])
		}
		records = append(records, sealed[:size+int(n)])
		sealed = sealed[size+int(n):]
	}
	return records
}

// sizes are the lengths of the ciphertext of each record.
func sizes(t testing.TB, sealed []byte) (all []int) {
	t.Helper()
	for _, r := range cutRecords(t, sealed) {
		all = append(all, len(r)-1<<(r[0]>>6))
	}
	return all
}

// emptyReads gives (0, nil) before each read.
type emptyReads struct {
	io.Reader
	odd bool
}

func (e *emptyReads) Read(p []byte) (int, error) {
	if e.odd = !e.odd; e.odd {
		return 0, nil
	}
	return e.Reader.Read(p)
}

// below are readers of a body that behave as readers may.
var below = []struct {
	name string
	make func(io.Reader) io.Reader
}{
	{"all at once", func(r io.Reader) io.Reader { return r }},
	{"one byte", iotest.OneByteReader},
	{"halves", iotest.HalfReader},
	{"data with io.EOF", iotest.DataErrReader},
	{"one byte, data with io.EOF", func(r io.Reader) io.Reader { return iotest.DataErrReader(iotest.OneByteReader(r)) }},
	{"(0, nil)", func(r io.Reader) io.Reader { return &emptyReads{Reader: r} }},
}

// above are ways to read one.
var above = []struct {
	name string
	read func(*seal.RecordReader) ([]byte, error)
}{
	{"io.ReadAll", func(r *seal.RecordReader) ([]byte, error) { return io.ReadAll(r) }},
	{"one byte", func(r *seal.RecordReader) ([]byte, error) { return io.ReadAll(iotest.OneByteReader(r)) }},
	{"nothing and all", func(r *seal.RecordReader) (all []byte, err error) {
		buf := make([]byte, 70000)
		for {
			if n, err := r.Read(nil); n != 0 || err != nil {
				return all, fmt.Errorf("a read of nothing: %d, %w", n, err)
			}
			n, err := r.Read(buf)
			all = append(all, buf[:n]...)
			if err == io.EOF {
				return all, nil
			}
			if err != nil {
				return all, err
			}
		}
	}},
	{"io.Copy", func(r *seal.RecordReader) ([]byte, error) {
		var b bytes.Buffer
		n, err := io.Copy(&b, r)
		if n != int64(b.Len()) {
			return nil, fmt.Errorf("io.Copy says %d bytes of %d", n, b.Len())
		}
		return b.Bytes(), err
	}},
}

func TestRecords(t *testing.T) {
	bodies := 0
	for _, sp := range specs {
		x := newExchange(t, newKey(t, sp.suite), nil)
		for _, n := range []int{0, 1, 2, 16383, 16384, 16385, 32767, 32768, 32769, 70000} {
			for _, chunk := range []int{1, 1000, 16384, 16385, 70000} {
				if chunk > max(n, 1) && chunk != 70000 || chunk == 1 && sp.suite != seal.X25519AES256GCM {
					continue
				}
				data := pattern(n)
				_, w := x.respond(t, nil, nil)
				var sealed bytes.Buffer
				rw := w.NewWriter(&sealed, nil)
				for part := range slices.Chunk(data, chunk) {
					if m, err := rw.WriteString(string(part)); m != len(part) || err != nil {
						t.Fatal(m, err)
					}
				}
				if err := rw.Close(); err != nil {
					t.Fatal(err)
				}
				var want []int
				for m := n; m > 16384; m -= 16384 {
					want = append(want, 16384+1+16)
				}
				want = append(want, n-16384*len(want)+1+16)
				if got := sizes(t, sealed.Bytes()); !slices.Equal(got, want) {
					t.Fatalf("%v, %d bytes in writes of %d: records of %v, want %v", sp.suite, n, chunk, got, want)
				}
				bodies++
			}
		}
	}
	t.Logf("%d bodies", bodies)
}

func TestRecordReaders(t *testing.T) {
	reads := 0
	for _, sp := range specs {
		key := newKey(t, sp.suite)
		for _, lengths := range [][]int{nil, {1}, {16384, 1}, {100, 16384, 5}} {
			data := pattern(20000)
			for _, b := range below {
				for _, a := range above {
					x := newExchange(t, key, nil)
					sealed := body(t, x.caller.Records(), data, lengths...)
					r := x.server.Records().NewReader(b.make(bytes.NewReader(sealed)))
					got, err := a.read(r)
					if err != nil || !bytes.Equal(got, data) {
						t.Fatalf("%v, below %s, above %s: %d bytes, %v", sp.suite, b.name, a.name, len(got), err)
					}
					if r.Padded() != int64(len(data)) {
						t.Errorf("%d bytes count as %d", len(data), r.Padded())
					}
					sticky(t, r, io.EOF)
					reads++
				}
			}
		}
	}
	t.Logf("%d bodies", reads)
}

// sticky fails the test unless each further read of whatever kind ends with want, and
// Close changes nothing.
func sticky(t testing.TB, r *seal.RecordReader, want error) {
	t.Helper()
	for i := range 3 {
		if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, want) || (err == io.EOF) != (want == io.EOF) {
			t.Fatalf("read again: %d, %v, want %v", n, err, want)
		}
		if n, err := r.WriteTo(io.Discard); n != 0 || want != io.EOF && !errors.Is(err, want) || want == io.EOF && err != nil {
			t.Fatalf("written again: %d, %v, want %v", n, err, want)
		}
		if i == 1 {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// notRead fails the test unless a body ends with want, and none other of the errors,
// each way it is read, and what was read is a beginning of data, of whole records.
func notRead(t testing.TB, what string, records func() *seal.Records, sealed, data []byte, want error) {
	t.Helper()
	for _, a := range above {
		r := records().NewReader(bytes.NewReader(sealed))
		got, err := a.read(r)
		if err == nil || !errors.Is(err, want) {
			t.Fatalf("%s, %s: %d bytes and %v, want %v", what, a.name, len(got), err, want)
		}
		for _, other := range []error{seal.ErrMalformed, seal.ErrDecryptionFailed, seal.ErrTruncated, io.EOF, io.ErrUnexpectedEOF} {
			if other != want && errors.Is(err, other) {
				t.Fatalf("%s, %s: the error is %v too", what, a.name, other)
			}
		}
		if !bytes.HasPrefix(data, got) {
			t.Fatalf("%s, %s: bytes that were not sent", what, a.name)
		}
		sticky(t, r, want)
	}
}

// again returns a function that opens the exchange anew, for each trial its own.
func (x *exchange) again(t testing.TB) func() *seal.Records {
	return func() *seal.Records {
		s, err := x.key.OpenExchange(x.enc, x.auth, x.info)
		if err != nil {
			t.Fatal(err)
		}
		return s.Records()
	}
}

func TestRecordTruncations(t *testing.T) {
	cuts := 0
	for _, sp := range specs {
		x := newExchange(t, newKey(t, sp.suite), nil)
		data := pattern(150)
		sealed := body(t, x.caller.Records(), data, 1, 99)
		for n := range len(sealed) {
			notRead(t, fmt.Sprintf("%v, %d of %d bytes", sp.suite, n, len(sealed)), x.again(t), sealed[:n], data, seal.ErrTruncated)
			cuts++
		}
	}
	t.Logf("%d truncations", cuts)
}

func TestRecordBitFlips(t *testing.T) {
	flips := 0
	for _, sp := range specs {
		x := newExchange(t, newKey(t, sp.suite), nil)
		data := pattern(100)
		sealed := body(t, x.caller.Records(), data, 10, 30)
		starts := map[int]bool{}
		at := 0
		for _, r := range cutRecords(t, sealed) {
			starts[at] = true
			if at += len(r); r[0]>>6 == 1 {
				starts[at-len(r)+1] = true
			}
		}
		for at := range sealed {
			flipped := bytes.Clone(sealed)
			flipped[at] ^= 1 << (at % 8)
			if !starts[at] {
				notRead(t, fmt.Sprintf("%v, byte %d", sp.suite, at), x.again(t), flipped, data, seal.ErrDecryptionFailed)
				flips++
				continue
			}
			// In a length: too short, too long, or other bytes than were sealed.
			for bit := range 8 {
				flipped := bytes.Clone(sealed)
				flipped[at] ^= 1 << bit
				got, err := readBody(x.again(t)(), flipped)
				if !bytes.HasPrefix(data, got) || !errors.Is(err, seal.ErrDecryptionFailed) && !errors.Is(err, seal.ErrMalformed) && !errors.Is(err, seal.ErrTruncated) {
					t.Errorf("%v, bit %d of the length at %d: %d bytes, %v", sp.suite, bit, at, len(got), err)
				}
				flips++
			}
		}
	}
	t.Logf("%d flips", flips)
}

// Records out of order, missing, doubled, or of another body open no further than
// where the order breaks.
func TestRecordsRearranged(t *testing.T) {
	trials := 0
	for _, sp := range specs {
		t.Run(sp.name, func(t *testing.T) {
			x := newExchange(t, newKey(t, sp.suite), []byte("info"))
			data := pattern(100)
			records := cutRecords(t, body(t, x.caller.Records(), data, 20, 20, 20, 20))
			try := func(what string, want error, records ...[]byte) {
				t.Helper()
				notRead(t, what, x.again(t), bytes.Join(records, nil), data, want)
				trials++
			}
			for i := range records {
				dropped := slices.Delete(slices.Clone(records), i, i+1)
				want := seal.ErrDecryptionFailed
				if i == len(records)-1 {
					want = seal.ErrTruncated
				}
				try(fmt.Sprintf("without record %d", i), want, dropped...)
				for j := range len(records) + 1 {
					doubled := slices.Insert(slices.Clone(records), j, records[i])
					want := seal.ErrDecryptionFailed
					if j == len(records) {
						want = seal.ErrMalformed // bytes after the last
					}
					if j == len(records)-1 && i == j || j == i && i == len(records)-1 {
						want = seal.ErrMalformed
					}
					try(fmt.Sprintf("record %d once more, before %d", i, j), want, doubled...)
				}
				for j := range i {
					swapped := slices.Clone(records)
					swapped[i], swapped[j] = swapped[j], swapped[i]
					try(fmt.Sprintf("records %d and %d swapped", i, j), seal.ErrDecryptionFailed, swapped...)
				}
			}

			// Another exchange of the same caller, key and info; the other direction; a
			// message: each in the place of each record, and whole.
			y := newExchange(t, x.key, x.info)
			foreign := map[string][][]byte{"another exchange": cutRecords(t, body(t, y.caller.Records(), data, 20, 20, 20, 20))}
			h, w := x.respond(t, nil, nil)
			response := cutRecords(t, body(t, w, data, 20, 20, 20, 20))
			foreign["the response"] = response
			for from, theirs := range foreign {
				for i := range records {
					mixed := slices.Clone(records)
					mixed[i] = theirs[i]
					try(fmt.Sprintf("record %d of %s", i, from), seal.ErrDecryptionFailed, mixed...)
				}
				try(from, seal.ErrDecryptionFailed, theirs...)
			}
			message := sealTo(t, x.key.Public(), append(pattern(10), 2), x.info)
			try("a message", seal.ErrDecryptionFailed, append(varint(uint64(len(message)), 0), message...))
			// The request as the response, and that of another exchange.
			h3, w3 := y.respond(t, nil, nil)
			other := cutRecords(t, body(t, w3, data, 20, 20, 20, 20))
			opened := func(t testing.TB) func() *seal.Records {
				return func() *seal.Records {
					r, err := x.caller.OpenResponse(h, nil, nil)
					if err != nil {
						t.Fatal(err)
					}
					return r
				}
			}(t)
			for i := range records {
				for from, theirs := range map[string][][]byte{"the request": records, "another response": other} {
					mixed := slices.Clone(response)
					mixed[i] = theirs[i]
					notRead(t, fmt.Sprintf("record %d of %s in a response", i, from), opened, bytes.Join(mixed, nil), data, seal.ErrDecryptionFailed)
					trials++
				}
			}
			if _, err := y.caller.OpenResponse(h3, nil, nil); err != nil {
				t.Error(err)
			}
			// The tags at sequence number 0 are no records.
			try("auth as a record", seal.ErrMalformed, append(varint(16, 0), x.auth...))
		})
	}
	t.Logf("%d trials", trials)
}

func TestRecordRules(t *testing.T) {
	last := func(data ...byte) []byte { return append(data, 2) }
	cases := []struct {
		name    string
		records [][]byte // plaintexts
		want    error    // nil: the data is "data"
	}{
		{"one record", [][]byte{last('d', 'a', 't', 'a')}, nil},
		{"an empty last record", [][]byte{[]byte("data\x01"), last()}, nil},
		{"zeros", [][]byte{[]byte("da\x01\x00\x00"), []byte("ta\x02\x00")}, nil},
		{"zeros, then an empty last record with zeros", [][]byte{[]byte("data\x01\x00"), make([]byte, 1), last()}, seal.ErrMalformed},
		{"all of it padding", [][]byte{[]byte("data\x01"), append(last(), make([]byte, 65535)...)}, nil},
		{"no delimiter", [][]byte{nil}, seal.ErrMalformed},
		{"zeros only", [][]byte{make([]byte, 100)}, seal.ErrMalformed},
		{"another delimiter", [][]byte{[]byte("data\x03")}, seal.ErrMalformed},
		{"another delimiter, padded", [][]byte{[]byte("data\x03\x00")}, seal.ErrMalformed},
		{"data for a delimiter", [][]byte{[]byte("data")}, seal.ErrMalformed},
		{"an empty first record", [][]byte{{1}, []byte("data\x02")}, seal.ErrMalformed},
		{"an empty first record, padded", [][]byte{{1, 0, 0}, []byte("data\x02")}, seal.ErrMalformed},
		{"an empty second record", [][]byte{[]byte("da\x01"), {1}, []byte("ta\x02")}, seal.ErrMalformed},
		{"a record after the last", [][]byte{[]byte("data\x02"), []byte("\x02")}, seal.ErrMalformed},
		{"no last record", [][]byte{[]byte("data\x01")}, seal.ErrTruncated},
		{"nothing", nil, seal.ErrTruncated},
	}
	for _, sp := range specs {
		for _, c := range cases {
			t.Run(sp.name+"/"+c.name, func(t *testing.T) {
				for _, a := range above {
					f := newForger(t, sp)
					var sealed []byte
					padded := 0
					for _, plaintext := range c.records {
						if len(plaintext) == 0 { // of 16 bytes, below the least
							sealed = append(sealed, append(varint(16, 0), f.seal(t, nil)...)...)
							continue
						}
						sealed = append(sealed, f.record(t, plaintext)...)
						padded += len(plaintext) - 1
					}
					r := f.server.Records().NewReader(bytes.NewReader(sealed))
					got, err := a.read(r)
					if c.want == nil {
						if string(got) != "data" || err != nil {
							t.Errorf("%s: %q, %v", a.name, got, err)
						}
						if r.Padded() != int64(padded) {
							t.Errorf("%s: %d bytes with padding count as %d", a.name, padded, r.Padded())
						}
						continue
					}
					if !errors.Is(err, c.want) || errors.Is(err, io.EOF) || !bytes.HasPrefix([]byte("data"), got) {
						t.Errorf("%s: %q, %v, want %v", a.name, got, err, c.want)
					}
					sticky(t, r, c.want)
				}
			})
		}
	}
}

// What follows the last record is seen wherever it begins, and costs nothing.
func TestBytesAfterTheLastRecord(t *testing.T) {
	x := newExchange(t, newKey(t, seal.X25519AES256GCM), nil)
	sealed := body(t, x.caller.Records(), []byte("data"), 2)
	for _, after := range [][]byte{{0}, {17}, bytes.Repeat([]byte{0xff}, 100), make([]byte, 1<<20)} {
		notRead(t, fmt.Sprintf("%d bytes after the last record", len(after)), x.again(t), append(bytes.Clone(sealed), after...), []byte("data"), seal.ErrMalformed)
		for _, b := range below { // in a read of its own
			r := x.again(t)().NewReader(b.make(io.MultiReader(bytes.NewReader(sealed), bytes.NewReader(after))))
			if got, err := io.ReadAll(r); string(got) != "data" || !errors.Is(err, seal.ErrMalformed) {
				t.Errorf("%s: %q, %v", b.name, got, err)
			}
		}
	}
}

func TestRecordLengths(t *testing.T) {
	sp := specs[0]
	plaintext := func(ct int) []byte {
		p := make([]byte, ct-16)
		p[0] = 2
		return p
	}
	trials := 0
	for _, n := range []uint64{0, 1, 2, 15, 16, 17, 18, 63, 64, 16383, 16384, 16401, 16402, 65551, 65552, 65553, 65554, 1 << 20, 1<<30 - 1, 1 << 30, 1 << 32, 1<<32 + 17, 1<<62 - 1} {
		for _, size := range []int{1, 2, 4, 8} {
			if size < 8 && n >= 1<<(8*size-2) {
				continue
			}
			f := newForger(t, sp)
			if n < 17 || n > 65552 {
				// Refused by its length: nothing behind it is read, nor room made for it.
				tail := &countingReader{Reader: bytes.NewReader(bytes.Repeat([]byte{1}, 100<<10))}
				r := f.server.Records().NewReader(io.MultiReader(bytes.NewReader(varint(n, size)), tail))
				var got []byte
				var err error
				if allocated := allocates(func() { got, err = io.ReadAll(r) }); allocated > 64<<10 {
					t.Errorf("a length of %d allocates %d bytes", n, allocated)
				}
				if len(got) != 0 || !errors.Is(err, seal.ErrMalformed) || tail.n > 32<<10 {
					t.Errorf("a length of %d in %d bytes: %d bytes, %v, %d read behind it", n, size, len(got), err, tail.n)
				}
				sticky(t, r, seal.ErrMalformed)
			} else {
				sealed := append(varint(n, size), f.seal(t, plaintext(int(n)))...)
				for _, b := range below {
					g := f.server.Records()
					r := g.NewReader(b.make(bytes.NewReader(sealed)))
					if got, err := io.ReadAll(r); len(got) != 0 || err != nil {
						t.Errorf("a length of %d in %d bytes, %s: %d bytes, %v", n, size, b.name, len(got), err)
					}
					if r.Padded() != int64(n)-17 {
						t.Errorf("a length of %d counts as %d", n, r.Padded())
					}
					trials++
				}
			}
			trials++
		}
	}
	t.Logf("%d lengths", trials)
}

type countingReader struct {
	io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// allocates returns how many bytes f allocates.
func allocates(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

var errBelow = errors.New("the connection is gone")

// An error of the reader below comes through, wherever it comes, and with data too;
// an end is none: whatever wraps io.EOF is a truncation.
func TestRecordReaderErrors(t *testing.T) {
	x := newExchange(t, newKey(t, seal.X25519AES256GCM), nil)
	data := pattern(60)
	sealed := body(t, x.caller.Records(), data, 20, 20)
	errs := []struct {
		err, want error
	}{
		{errBelow, errBelow},
		{fmt.Errorf("read: %w", errBelow), errBelow},
		{io.ErrNoProgress, io.ErrNoProgress},
		{io.ErrClosedPipe, io.ErrClosedPipe},
		{io.ErrUnexpectedEOF, seal.ErrTruncated},
		{fmt.Errorf("read tcp: %w", io.EOF), seal.ErrTruncated},
		{fmt.Errorf("read tcp: %w", io.ErrUnexpectedEOF), seal.ErrTruncated},
		{errors.Join(errBelow, io.EOF), seal.ErrTruncated},
		{isEOF{}, seal.ErrTruncated},
	}
	trials := 0
	for _, e := range errs {
		for n := range len(sealed) + 1 {
			for _, withData := range []bool{false, true} {
				for _, a := range above {
					r := x.again(t)().NewReader(&failingReader{data: sealed[:n], err: e.err, withData: withData})
					got, err := a.read(r)
					if !errors.Is(err, e.want) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
						t.Fatalf("%v after %d of %d bytes: %v, want %v", e.err, n, len(sealed), err, e.want)
					}
					if !bytes.HasPrefix(data, got) {
						t.Fatalf("%v after %d bytes: bytes that were not sent", e.err, n)
					}
					if n == len(sealed) && len(got) != len(data) {
						t.Fatalf("%v after the last record: %d bytes", e.err, len(got))
					}
					sticky(t, r, e.want)
					trials++
				}
			}
		}
	}
	t.Logf("%d errors", trials)
}

type isEOF struct{}

func (isEOF) Error() string        { return "end" }
func (isEOF) Is(target error) bool { return target == io.EOF }

// failingReader gives data, then its error once, and then a clean end: what reads it
// must keep the error itself.
type failingReader struct {
	data     []byte
	err      error
	withData bool // the error comes with the last data
	failed   bool
}

func (f *failingReader) Read(p []byte) (int, error) {
	n := copy(p, f.data)
	f.data = f.data[n:]
	if len(f.data) == 0 && !f.failed && (n == 0 || f.withData) {
		f.failed = true
		return n, f.err
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func TestRecordReaderClose(t *testing.T) {
	x := newExchange(t, newKey(t, seal.X25519AES256GCM), nil)
	sealed := body(t, x.caller.Records(), pattern(100), 50)
	below := &countingReader{Reader: bytes.NewReader(sealed)}
	r := x.server.Records().NewReader(below)
	var seen []byte
	if n, err := r.WriteTo(writerFunc(func(p []byte) (int, error) {
		seen = p // which a writer must not do; here it shows what becomes of the buffer
		return 10, errBelow
	})); n != 10 || err != errBelow {
		t.Fatal(n, err)
	}
	if !bytes.Equal(seen, pattern(100)[:50]) {
		t.Fatalf("%x", seen)
	}
	if n, err := r.Read(make([]byte, 5)); n != 5 || err != nil {
		t.Fatal(n, err) // the writer's error is not the reader's
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(seen, make([]byte, len(seen))) {
		t.Error("the buffer goes back with plaintext in it")
	}
	sticky(t, r, seal.ErrWriterClosed)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// io.Copy to a writer that takes less than it is given.
func TestRecordReaderShortWrite(t *testing.T) {
	x := newExchange(t, newKey(t, seal.X25519AES256GCM), nil)
	sealed := body(t, x.caller.Records(), pattern(100))
	n, err := io.Copy(writerFunc(func(p []byte) (int, error) { return len(p) - 1, nil }), x.server.Records().NewReader(bytes.NewReader(sealed)))
	if n != 99 || err != io.ErrShortWrite {
		t.Error(n, err)
	}
}

func TestRecordWriter(t *testing.T) {
	x := newExchange(t, newKey(t, seal.X25519AES256GCM), nil)
	var writes [][]byte
	w := x.caller.Records().NewWriter(writerFunc(func(p []byte) (int, error) {
		writes = append(writes, bytes.Clone(p))
		return len(p), nil
	}), nil)
	step := func(what string, records, buffered int) {
		t.Helper()
		if len(writes) != records || len(w.Buffered()) != buffered {
			t.Fatalf("after %s: %d records and %d bytes buffered, want %d and %d", what, len(writes), len(w.Buffered()), records, buffered)
		}
	}
	data := pattern(40000)
	write := func(n int) {
		t.Helper()
		if m, err := w.Write(data[:n]); m != n || err != nil {
			t.Fatal(m, err)
		}
	}
	flush := func() {
		t.Helper()
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	step("nothing", 0, 0)
	flush()
	write(0)
	step("a flush of nothing", 0, 0)
	write(10)
	if !bytes.Equal(w.Buffered(), data[:10]) {
		t.Error("other bytes are buffered")
	}
	step("10 bytes", 0, 10)
	flush()
	flush()
	step("two flushes", 1, 0)
	write(16384)
	step("a full record", 1, 16384) // it may be the last
	write(1)
	step("one more", 2, 1)
	write(16384 + 16383)
	step("31 KiB more", 3, 16384)
	flush()
	step("a flush", 4, 0)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	step("Close", 5, 0)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	step("another Close, and Abort", 5, 0)
	if n, err := w.Write(data[:1]); n != 0 || err != seal.ErrWriterClosed {
		t.Error(n, err)
	}
	if n, err := w.WriteString("x"); n != 0 || err != seal.ErrWriterClosed {
		t.Error(n, err)
	}
	if err := w.Flush(); err != seal.ErrWriterClosed {
		t.Error(err)
	}
	step("what is closed", 5, 0)
	for i, r := range writes { // each record in one write
		if got := cutRecords(t, r); len(got) != 1 {
			t.Errorf("write %d has %d records", i, len(got))
		}
	}
	if got, want := sizes(t, bytes.Join(writes, nil)), []int{27, 16401, 16401, 16401, 17}; !slices.Equal(got, want) {
		t.Errorf("records of %v, want %v", got, want)
	}
	got, err := readBody(x.server.Records(), bytes.Join(writes, nil))
	want := slices.Concat(data[:10], data[:16384], data[:1], data[:16384+16383])
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestRecordWriterAbort(t *testing.T) {
	x := newExchange(t, newKey(t, seal.X25519AES256GCM), nil)
	var sealed bytes.Buffer
	w := x.caller.Records().NewWriter(&sealed, nil)
	if _, err := w.Write(pattern(20000)); err != nil {
		t.Fatal(err)
	}
	buffered := w.Buffered()
	w.Abort()
	w.Abort()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(buffered, make([]byte, len(buffered))) || len(w.Buffered()) != 0 {
		t.Error("the buffer goes back with plaintext in it")
	}
	notRead(t, "what was aborted", x.again(t), sealed.Bytes(), pattern(20000), seal.ErrTruncated)
}

// What the writer below says is kept, and nothing is sent after it: a record that was
// half written cannot be followed by another.
func TestRecordWriterErrors(t *testing.T) {
	for _, short := range []bool{false, true} {
		for fail := range 4 {
			for _, end := range []string{"Write", "Flush", "Close"} {
				x := newExchange(t, newKey(t, seal.X25519AES256GCM), nil)
				records, want := 0, errBelow
				if short {
					want = io.ErrShortWrite
				}
				w := x.caller.Records().NewWriter(writerFunc(func(p []byte) (int, error) {
					records++
					if records <= fail {
						return len(p), nil
					}
					if short {
						return len(p) - 1, nil
					}
					return 3, errBelow
				}), nil)
				for range fail {
					if _, err := w.Write(pattern(5)); err != nil {
						t.Fatal(err)
					}
					if err := w.Flush(); err != nil {
						t.Fatal(err)
					}
				}
				n, err := 0, error(nil)
				switch end {
				case "Write":
					if n, err = w.Write(pattern(20000)); n != 16384 {
						t.Errorf("%d bytes were written", n)
					}
				case "Flush":
					_, _ = w.Write(pattern(5))
					err = w.Flush()
				case "Close":
					err = w.Close()
				}
				if err != want {
					t.Errorf("%s after %d records: %v, want %v", end, fail, err, want)
				}
				for range 2 {
					if n, err := w.Write(pattern(20000)); n != 0 || err != want {
						t.Error(n, err)
					}
					if err := w.Flush(); err != want {
						t.Error(err)
					}
					if err := w.Close(); err != want {
						t.Error(err)
					}
					w.Abort()
				}
				if records != fail+1 || w.Buffered() != nil {
					t.Errorf("%d records after %d, and %d bytes buffered", records, fail, len(w.Buffered()))
				}
			}
		}
	}
}

// begin is asked once, when the first record is about to be sealed, and sees what was
// written.
func TestNewRecordWriter(t *testing.T) {
	x := newExchange(t, newKey(t, seal.X25519AES256GCM), nil)
	for _, pad := range []seal.Padding{nil, seal.PaddingFunc(func(int64) int64 { return 40000 })} {
		asked := 0
		var sealed bytes.Buffer
		var w *seal.RecordWriter
		_, records := x.respond(t, nil, nil)
		w = seal.NewRecordWriter(&sealed, pad, func() (*seal.Records, error) {
			asked++
			if string(w.Buffered()) != "hello" {
				t.Errorf("buffered is %q", w.Buffered())
			}
			return records, nil
		})
		_, _ = w.WriteString("hello")
		if asked != 0 {
			t.Error("begin was asked for before a record was due")
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(pattern(100000))
		if err := w.Close(); err != nil || asked != 1 {
			t.Errorf("asked %d times, %v", asked, err)
		}
		w = seal.NewRecordWriter(&sealed, pad, func() (*seal.Records, error) { asked++; return nil, errBelow })
		sealed.Reset()
		for range 2 {
			if err := w.Close(); err != errBelow {
				t.Error(err)
			}
			if err := w.Flush(); err != errBelow {
				t.Error(err)
			}
		}
		if asked != 2 || sealed.Len() != 0 {
			t.Errorf("asked %d times, and %d bytes were written", asked, sealed.Len())
		}
	}
}

// A buffer must not be in use twice: what one body holds would show in another.
func TestRecordBuffersAreOnesOwn(t *testing.T) {
	x := newExchange(t, newKey(t, seal.X25519AES256GCM), nil)
	pad := seal.PaddingFunc(func(int64) int64 { return 40000 })
	for i := range 200 {
		broken := x.caller.Records().NewWriter(writerFunc(func([]byte) (int, error) { return 0, errBelow }), pad)
		_, _ = broken.Write(pattern(1 + i%5))
		_ = broken.Close()
		_ = broken.Close()
		broken.Abort()
		var writers []*seal.RecordWriter
		for j := range 4 {
			w := x.caller.Records().NewWriter(io.Discard, nil)
			_, _ = w.WriteString(fmt.Sprint("writer ", j))
			writers = append(writers, w)
		}
		for j, w := range writers {
			if string(w.Buffered()) != fmt.Sprint("writer ", j) {
				t.Fatalf("writer %d holds %q", j, w.Buffered())
			}
			w.Abort()
		}
	}
}

// What each record costs does not add up.
func TestManySmallRecords(t *testing.T) {
	f := newForger(t, specs[0])
	var sealed []byte
	const n = 20000
	for range n {
		sealed = append(sealed, f.record(t, []byte{'x', 1})...)
	}
	sealed = append(sealed, f.record(t, []byte{2})...)
	r := f.server.Records().NewReader(bytes.NewReader(sealed))
	total := int64(0)
	var err error
	if allocated := allocates(func() { total, err = r.WriteTo(io.Discard) }); allocated > 64<<10 {
		t.Errorf("%d bytes allocated", allocated)
	}
	if total != n || err != nil {
		t.Error(total, err)
	}
}

func TestRecordAllocations(t *testing.T) {
	data := pattern(16384)
	for _, sp := range specs {
		x := newExchange(t, newKey(t, sp.suite), nil)
		w := x.caller.Records().NewWriter(io.Discard, seal.Padme)
		if n := testing.AllocsPerRun(200, func() {
			_, _ = w.Write(data)
			_ = w.Flush()
		}); n != 0 {
			t.Errorf("%v: %v allocations to seal a record", sp.suite, n)
		}
		_ = w.Close()

		const runs = 200
		var sealed bytes.Buffer
		x = newExchange(t, x.key, nil)
		w = x.caller.Records().NewWriter(&sealed, nil)
		for range runs + 2 {
			_, _ = w.Write(data)
		}
		_ = w.Close()
		r := x.server.Records().NewReader(bytes.NewReader(sealed.Bytes()))
		buf := make([]byte, 16384)
		if n := testing.AllocsPerRun(runs, func() {
			if _, err := io.ReadFull(r, buf); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations to open a record", sp.suite, n)
		}
	}
}

// A body of 1 GiB passes through a heap that does not grow with it.
func TestGibibyte(t *testing.T) {
	if testing.Short() {
		t.Skip("a second or more")
	}
	const total = 1 << 30
	x := newExchange(t, newKey(t, seal.X25519AES256GCM), nil)
	from, to := io.Pipe()
	start := time.Now()
	go func() {
		w := x.caller.Records().NewWriter(to, nil)
		chunk := pattern(1 << 20)
		for range total / len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				to.CloseWithError(err)
				return
			}
		}
		to.CloseWithError(w.Close())
	}()
	runtime.GC()
	var before, m runtime.MemStats
	runtime.ReadMemStats(&before)
	peak := before.HeapAlloc
	buf := make([]byte, 32<<10)
	n := int64(0)
	r := x.server.Records().NewReader(from)
	for next := int64(0); ; {
		got, err := r.Read(buf)
		n += int64(got)
		if n >= next {
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
			next += 64 << 20
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(start)
	t.Logf("%d bytes in %v, heap %d KiB above the start", n, took.Round(time.Millisecond), (peak-before.HeapAlloc)>>10)
	if n != total {
		t.Errorf("%d bytes, want %d", n, total)
	}
	if peak > before.HeapAlloc+8<<20 {
		t.Error("the heap grows with the body")
	}
}

// No bytes make a reader panic, or give data that was not sealed, or room for more
// than a record.
func FuzzRecordReader(f *testing.F) {
	key := fixedKey(f, seal.X25519AES256GCM, 1, "records")
	x := newExchange(f, key, nil)
	data := pattern(300)
	sealed := body(f, x.caller.Records(), data, 1, 100)
	f.Add(sealed, uint8(0))
	f.Add(sealed[:100], uint8(1))
	f.Add(append(bytes.Clone(sealed), 0), uint8(2))
	f.Add([]byte{}, uint8(3))
	for _, n := range []uint64{0, 16, 17, 65552, 65553, 1<<62 - 1} {
		f.Add(append(varint(n, 8), make([]byte, 100)...), uint8(n))
	}
	f.Fuzz(func(t *testing.T, bytesBelow []byte, how uint8) {
		b := below[int(how)%len(below)]
		r := x.again(t)().NewReader(b.make(bytes.NewReader(bytesBelow)))
		var got []byte
		var err error
		allocated := allocates(func() { got, err = io.ReadAll(r) })
		if limit := uint64(256<<10 + 8*len(bytesBelow)); allocated > limit {
			t.Fatalf("%d bytes below make %d bytes of garbage", len(bytesBelow), allocated)
		}
		if err == nil && !bytes.Equal(bytesBelow, sealed) && len(bytesBelow) <= len(sealed) {
			t.Fatalf("other bytes than were sealed open to %x", got)
		}
		if !bytes.HasPrefix(data, got) || errors.Is(err, io.EOF) {
			t.Fatalf("%x, %v", got, err)
		}
		if err != nil && !errors.Is(err, seal.ErrMalformed) && !errors.Is(err, seal.ErrDecryptionFailed) && !errors.Is(err, seal.ErrTruncated) {
			t.Fatal(err)
		}
	})
}

// Whatever is written and flushed, in whatever pieces and padded however, is read.
func FuzzRecords(f *testing.F) {
	keys := map[seal.Suite]*seal.PrivateKey{}
	for _, sp := range specs {
		keys[sp.suite] = fixedKey(f, sp.suite, 1, "records")
		f.Add(uint8(sp.suite), uint64(sp.suite), uint32(100000), uint32(40000))
	}
	f.Add(uint8(1), uint64(1), uint32(0), uint32(0))
	f.Add(uint8(1), uint64(2), uint32(16384), uint32(1))
	f.Add(uint8(3), uint64(2), uint32(3), uint32(49152))
	f.Fuzz(func(t *testing.T, suite uint8, seed uint64, size, bucket uint32) {
		key := keys[seal.Suite(suite%6+1)]
		random := rand.New(rand.NewPCG(seed, 0))
		data := pattern(int(size % 200000))
		var pad seal.Padding
		if bucket%49153 > 0 {
			var err error
			if pad, err = seal.PadBuckets(int(bucket % 49153)); err != nil {
				t.Fatal(err)
			}
		}
		x := newExchange(t, key, nil)
		var sealed bytes.Buffer
		w := x.caller.Records().NewWriter(&sealed, pad)
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(1+random.IntN(50000)))
			if m, err := w.Write(rest[:n]); m != n || err != nil {
				t.Fatal(m, err)
			}
			rest = rest[n:]
			if random.IntN(3) == 0 {
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
				if len(w.Buffered()) != 0 {
					t.Fatal("a flush leaves data")
				}
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		plaintext := int64(0)
		for _, n := range sizes(t, sealed.Bytes()) {
			if n < 17 || n > 65552 {
				t.Fatalf("a record of %d bytes", n)
			}
			plaintext += int64(n) - 17
		}
		r := x.server.Records().NewReader(below[random.IntN(len(below))].make(&sealed))
		got, err := above[random.IntN(len(above))].read(r)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v, want %d", len(got), err, len(data))
		}
		if r.Padded() != plaintext || pad == nil && plaintext != int64(len(data)) {
			t.Fatalf("%d bytes with padding count as %d, want %d", len(data), r.Padded(), plaintext)
		}
	})
}
