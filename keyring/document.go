package keyring

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

// What a stored state can be refused with.
var (
	// ErrCorrupt is a stored state that is not as this package wrote it: damaged,
	// edited, or another ring's.
	ErrCorrupt = errors.New("the stored state is not as it was written")
	// ErrVersion is a stored state in a format that this version does not know.
	ErrVersion = errors.New("the stored state has an unknown format version")
)

const (
	documentFormat  = "sealhttp keyring"
	documentVersion = 1
	maxDocument     = 1 << 20 // bytes
	macLabel        = "sealhttp keyring v1 state\x00"
)

// document is a ring as it is stored, in JSON that an operator can read. There is
// one encoding of a document, so that no byte can change unnoticed, and a field
// more makes another version.
type document struct {
	Format   string    `json:"format"`
	Version  int       `json:"version"`
	Ring     string    `json:"ring"`
	Created  time.Time `json:"created"`
	Revision uint64    `json:"revision"` // the State's
	Serial   uint64    `json:"serial"`
	// Write is random. Two replicas that take the same step at the same time would write
	// the same otherwise, and could not tell which of them did.
	Write []byte        `json:"write"`
	Keys  []documentKey `json:"keys"`
	// IntegrityKey, encrypted at rest, is that of MAC: HMAC-SHA256 over the label and
	// this document without it.
	IntegrityKey []byte `json:"integrity_key"`
	MAC          []byte `json:"mac,omitempty"`
}

type documentKey struct {
	ID          uint32    `json:"id"`
	Suite       string    `json:"suite"`
	Prefix      bool      `json:"prefix"`
	State       KeyState  `json:"state"`
	Fingerprint string    `json:"fingerprint"`
	Created     time.Time `json:"created"`
	Promoted    time.Time `json:"promoted,omitzero"`
	Replaced    time.Time `json:"replaced,omitzero"`
	Retired     time.Time `json:"retired,omitzero"`
	Revoked     bool      `json:"revoked,omitempty"`
	Public      []byte    `json:"public,omitempty"`
	Private     []byte    `json:"private,omitempty"` // encrypted at rest
}

func newDocument(r *ring, revision uint64) *document {
	d := &document{
		Format:       documentFormat,
		Version:      documentVersion,
		Ring:         r.name,
		Created:      r.created,
		Revision:     revision,
		Serial:       r.serial,
		Write:        make([]byte, 12),
		Keys:         make([]documentKey, len(r.keys)),
		IntegrityKey: r.integrity,
	}
	rand.Read(d.Write) // never fails, see crypto/rand
	for i, k := range r.keys {
		d.Keys[i] = documentKey{
			ID:          k.id,
			Suite:       k.suite.String(),
			Prefix:      k.prefix,
			State:       k.state,
			Fingerprint: k.fingerprint,
			Created:     k.created,
			Promoted:    k.promoted,
			Replaced:    k.replaced,
			Retired:     k.retired,
			Revoked:     k.revoked,
			Private:     k.wrapped,
		}
		if k.public != nil {
			d.Keys[i].Public = k.public.Bytes()
		}
	}
	return d
}

func (d *document) encode() ([]byte, error) {
	data, err := json.MarshalIndent(d, "", "\t")
	if err != nil { // a year past 9999
		return nil, fmt.Errorf("encoding: %w", err)
	}
	return append(data, '\n'), nil
}

// sum returns the MAC of the document.
func (d *document) sum(integrityKey []byte) ([]byte, error) {
	unsigned := *d
	unsigned.MAC = nil
	data, err := unsigned.encode()
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, integrityKey)
	h.Write([]byte(macLabel))
	h.Write(data)
	return h.Sum(nil), nil
}

// sign encodes the document with its MAC.
func (d *document) sign(integrityKey []byte) ([]byte, error) {
	mac, err := d.sum(integrityKey)
	if err != nil {
		return nil, err
	}
	d.MAC = mac
	return d.encode()
}

// verify checks the MAC.
func (d *document) verify(integrityKey []byte) bool {
	mac, err := d.sum(integrityKey)
	return err == nil && hmac.Equal(mac, d.MAC)
}

// decode parses a document, of which nothing is to be believed before its MAC is
// verified. Its errors wrap ErrCorrupt or ErrVersion.
func decode(data []byte) (*document, error) {
	if len(data) > maxDocument {
		return nil, corrupt("%d bytes are more than any ring has", len(data))
	}
	var head struct {
		Format  string
		Version int
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, corrupt("%v", err)
	}
	switch {
	case head.Format != documentFormat:
		return nil, corrupt("its format is %q, not %q", head.Format, documentFormat)
	case head.Version != documentVersion:
		return nil, fmt.Errorf("%w: it is version %d, and this program reads version %d", ErrVersion, head.Version, documentVersion)
	}
	var d document
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return nil, corrupt("%v", err)
	}
	if again, err := d.encode(); err != nil || !bytes.Equal(again, data) {
		return nil, corrupt("it has another form")
	}
	return &d, nil
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

// ring returns the document's ring, checked for all that the rules depend on.
func (d *document) ring() (ring, error) {
	r := ring{name: d.Ring, created: d.Created, serial: d.Serial, keys: make([]key, 0, len(d.Keys)), integrity: d.IntegrityKey}
	states := make(map[KeyState]int)
	for i := range d.Keys {
		k, err := d.Keys[i].key()
		if err != nil {
			return ring{}, corrupt("key %d: %v", d.Keys[i].ID, err)
		}
		if r.find(k.id) != nil {
			return ring{}, corrupt("key %d is there twice", k.id)
		}
		states[k.state]++
		r.keys = append(r.keys, k)
	}
	live, raw := r.count()
	switch {
	case states[Primary] != 1 || states[Pending] > 1:
		return ring{}, corrupt("it has %d primary and %d pending keys", states[Primary], states[Pending])
	case live > maxLive || raw > maxRaw:
		return ring{}, corrupt("it has %d live keys, %d without a prefix", live, raw)
	}
	r.sort()
	return r, nil
}

func (d *documentKey) key() (key, error) {
	suite, err := seal.ParseSuite(d.Suite)
	if err != nil {
		return key{}, err
	}
	k := key{
		id:          d.ID,
		suite:       suite,
		prefix:      d.Prefix,
		state:       d.State,
		fingerprint: d.Fingerprint,
		wrapped:     d.Private,
		created:     d.Created,
		promoted:    d.Promoted,
		replaced:    d.Replaced,
		retired:     d.Retired,
		revoked:     d.Revoked,
	}
	switch {
	case d.ID == 0:
		return key{}, errors.New("the id must not be 0")
	case d.State.order() < 0:
		return key{}, fmt.Errorf("state %q does not exist", d.State)
	case k.stamp().IsZero():
		return key{}, fmt.Errorf("the time it became %s is missing", d.State)
	case d.State == Retired:
		if len(d.Private) > 0 {
			return key{}, errors.New("it is retired and has a private half")
		}
		return k, nil
	}
	if k.public, err = seal.NewPublicKey(suite, d.ID, d.Public, prefixOption(d.Prefix)...); err != nil {
		return key{}, err
	}
	if k.public.Fingerprint() != d.Fingerprint {
		return key{}, errors.New("the fingerprint is another key's")
	}
	return k, nil
}
