package tinkkeys

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxSize is the largest keyset in bytes, read or written: room for some 500 keys
// of the largest kind.
const maxSize = 1 << 20

// form is one of the two forms that Tink gives a message.
type form string

const (
	jsonForm   form = "JSON"
	binaryForm form = "binary"
)

func (f form) reader(r io.Reader) keyset.Reader {
	if f == jsonForm {
		return keyset.NewJSONReader(r)
	}
	return keyset.NewBinaryReader(r)
}

func (f form) writer(w io.Writer) keyset.Writer {
	if f == jsonForm {
		return keyset.NewJSONWriter(w)
	}
	return keyset.NewBinaryWriter(w)
}

// position is where protojson says that it stopped, the only part of its errors
// that quotes nothing.
var position = regexp.MustCompile(`\(line \d+:\d+\)`)

// decode reads a message with a method of Tink's reader.
func decode[M proto.Message](f form, data []byte, read func(keyset.Reader) (M, error)) (m M, err error) {
	if err := checkSize(data); err != nil {
		return m, err
	}
	m, err = read(f.reader(bytes.NewReader(data)))
	name := m.ProtoReflect().Descriptor().Name()
	if err != nil {
		what := fmt.Sprintf("not the %s form of Tink's %s %s", f, name, position.FindString(err.Error()))
		return m, fmt.Errorf("tinkkeys: %w: %s", ErrKeyset, strings.TrimSpace(what))
	}
	if hasUnknown(m.ProtoReflect()) {
		return m, fmt.Errorf("tinkkeys: %w: fields that Tink's %s does not have", ErrKeyset, name)
	}
	return m, nil
}

// encode writes a message with a method of Tink's writer.
func encode[M proto.Message](f form, m M, write func(keyset.Writer, M) error) ([]byte, error) {
	var b bytes.Buffer
	if err := write(f.writer(&b), m); err != nil {
		return nil, fmt.Errorf("tinkkeys: %w: %w", ErrKeyset, err)
	}
	if f == jsonForm {
		// protojson puts in spaces that differ from one build to the next.
		var compact bytes.Buffer
		if err := json.Compact(&compact, b.Bytes()); err != nil {
			return nil, fmt.Errorf("tinkkeys: %w: %w", ErrKeyset, err)
		}
		b = compact
	}
	if err := checkSize(b.Bytes()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func checkSize(data []byte) error {
	if len(data) > maxSize {
		return fmt.Errorf("tinkkeys: %w: %d bytes, at most %d", ErrKeyset, len(data), maxSize)
	}
	return nil
}

// hasUnknown reports whether a message, or one inside it, has fields that its type
// has not. The JSON form cannot have them. In the binary form they are how other
// messages show: the cleartext keyset that would go to a KMS as a ciphertext.
func hasUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	found := false
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.Message() == nil:
		case field.IsList():
			for i := 0; i < v.List().Len() && !found; i++ {
				found = hasUnknown(v.List().Get(i).Message())
			}
		default:
			found = hasUnknown(v.Message())
		}
		return !found
	})
	return found
}
