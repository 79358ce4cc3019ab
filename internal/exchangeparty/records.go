package exchangeparty

import (
	"bytes"
	"encoding/binary"
)

// Record is one record's plaintext.
type Record struct {
	Data    []byte
	Padding int // zeros behind the delimiter
}

// plaintext returns it as it is sealed.
func (r Record) plaintext(last bool) []byte {
	delimiter := byte(1)
	if last {
		delimiter = 2
	}
	return append(append(bytes.Clone(r.Data), delimiter), make([]byte, r.Padding)...)
}

// sealRecords returns a body; the last record is marked so.
func sealRecords(seal func(plaintext []byte) []byte, records []Record) []byte {
	var body []byte
	for i, r := range records {
		ct := seal(r.plaintext(i == len(records)-1))
		body = append(append(body, varint(len(ct))...), ct...)
	}
	return body
}

// varint is RFC 9000, section 16, in as few bytes as it goes.
func varint(n int) []byte {
	switch {
	case n < 1<<6:
		return []byte{byte(n)}
	case n < 1<<14:
		return binary.BigEndian.AppendUint16(nil, 1<<14|uint16(n))
	}
	return binary.BigEndian.AppendUint32(nil, 2<<30|uint32(n))
}

// openRecords returns the records of a body, with an error those before it.
func openRecords(open func(ct []byte) ([]byte, error), body []byte) (records []Record, err error) {
	for {
		if len(body) == 0 {
			return records, ErrTruncated
		}
		size := 1 << (body[0] >> 6)
		if len(body) < size {
			return records, ErrTruncated
		}
		n := uint64(body[0] & 0x3f)
		for _, b := range body[1:size] {
			n = n<<8 + uint64(b)
		}
		if n < 17 || n > 65552 {
			return records, malformed("a record of %d bytes", n)
		}
		body = body[size:]
		if uint64(len(body)) < n {
			return records, ErrTruncated
		}
		plaintext, err := open(body[:n])
		if err != nil {
			return records, ErrDecryptionFailed
		}
		body = body[n:]
		at := len(plaintext) - 1
		for at >= 0 && plaintext[at] == 0 {
			at--
		}
		switch {
		case at < 0:
			return records, malformed("no delimiter")
		case plaintext[at] != 1 && plaintext[at] != 2:
			return records, malformed("the delimiter %d", plaintext[at])
		case plaintext[at] == 1 && at == 0:
			return records, malformed("a record without data")
		}
		records = append(records, Record{plaintext[:at], len(plaintext) - 1 - at})
		if plaintext[at] == 2 {
			if len(body) > 0 {
				return records, malformed("%d bytes after the last record", len(body))
			}
			return records, nil
		}
	}
}

// Data returns the data of records.
func Data(records []Record) []byte {
	var all []byte
	for _, r := range records {
		all = append(all, r.Data...)
	}
	return all
}
