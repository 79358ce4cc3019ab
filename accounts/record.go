package accounts

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/seal"
)

// recordVersion is the version of the stored format that this package writes and
// reads.
const recordVersion = 1

const (
	maxWaiting = 5  // keys that are pending or proved
	maxRevoked = 64 // hashes of revoked keys that are kept, the newest
)

// KeyState says how far a key has come.
type KeyState string

// The states of a key. An account has at most one Current and one Previous key.
const (
	// Pending: registered; its holder has not shown the private half.
	Pending KeyState = "pending"
	// Proved: shown, and waiting for an operator to confirm it: see
	// [WithConfirmation].
	Proved KeyState = "proved"
	// Current: responses are sealed to it, and it can approve another key.
	Current KeyState = "current"
	// Previous: nothing is sealed to it, but it can still approve another key.
	Previous KeyState = "previous"
)

// inUse reports whether a key of this state can approve another.
func (s KeyState) inUse() bool { return s == Current || s == Previous }

// record is what is stored of an account.
type record struct {
	Version int           `json:"version"`
	Account string        `json:"account"`
	Policy  string        `json:"policy,omitempty"` // none: the default
	Keys    []*keyRecord  `json:"keys"`             // as they came into use, the newest first; then those that wait
	Revoked []*revokedKey `json:"revoked,omitempty"`

	policy sealhttp.Policy // of Policy, 0 for none
}

type keyRecord struct {
	ID          uint32         `json:"id"`
	Suite       string         `json:"suite"`
	Prefix      string         `json:"prefix"` // Tink's output prefix type
	Public      []byte         `json:"public"`
	Fingerprint string         `json:"fingerprint"`
	State       KeyState       `json:"state"`
	Approver    uint32         `json:"approver,omitempty"`
	Registered  time.Time      `json:"registered"`
	Proved      *time.Time     `json:"proved,omitempty"`
	Challenge   *openChallenge `json:"challenge,omitempty"`

	key *seal.PublicKey // of the fields above
}

// revokedKey keeps a key that was in use from being registered again.
type revokedKey struct {
	ID   uint32    `json:"id"`
	Hash []byte    `json:"sha256"` // of the public key
	Time time.Time `json:"time"`
}

const (
	prefixTink = "TINK"
	prefixRaw  = "RAW"
)

func newRecord(account string) *record {
	return &record{Version: recordVersion, Account: account, Keys: []*keyRecord{}}
}

// readRecord reads and checks what is stored of an account. Its errors wrap
// [ErrRecord] or [ErrVersion].
func readRecord(stored Record) (*record, error) {
	bad := func(format string, args ...any) (*record, error) {
		return nil, fmt.Errorf("accounts: the record of account %q: %w: %s", stored.Account, ErrRecord, fmt.Sprintf(format, args...))
	}
	if err := checkVersion(stored.Data, recordVersion); err != nil {
		return nil, fmt.Errorf("accounts: the record of account %q: %w", stored.Account, err)
	}
	r := new(record)
	if err := decodeJSON(stored.Data, r); err != nil {
		return bad("%v", err)
	}
	if r.Account != stored.Account {
		return bad("it says that it is of account %q", r.Account)
	}
	if r.Policy != "" {
		var ok bool
		if r.policy, ok = parsePolicy(r.Policy); !ok {
			return bad("policy %q is none", r.Policy)
		}
	}
	for _, k := range r.Keys {
		if k == nil {
			return bad("a key is null")
		}
		if err := k.read(); err != nil {
			return bad("key %d: %v", k.ID, err)
		}
	}
	for i, k := range r.Keys {
		for _, other := range r.Keys[:i] {
			if other.ID == k.ID || bytes.Equal(other.Public, k.Public) {
				return bad("key %d is there twice", k.ID)
			}
			if k.State.inUse() && other.State == k.State {
				return bad("keys %d and %d are both %s", other.ID, k.ID, k.State)
			}
		}
	}
	if _, previous := r.find(Previous); previous && r.current() == nil {
		return bad("it has a previous key without a current one")
	}
	for _, k := range r.Revoked {
		if k == nil || len(k.Hash) != sha256.Size {
			return bad("a revoked key has no SHA-256 hash")
		}
	}
	return r, nil
}

// checkVersion looks at the version of a stored format, before anything else of it
// is read.
func checkVersion(data []byte, known int) error {
	var head struct {
		Version *int `json:"version"`
	}
	if json.Unmarshal(data, &head) != nil {
		return fmt.Errorf("%w: %w", ErrRecord, errJSON)
	}
	if head.Version == nil {
		return fmt.Errorf("%w: it has no version", ErrRecord)
	}
	if *head.Version != known {
		return fmt.Errorf("%w: it has version %d, this program knows version %d", ErrVersion, *head.Version, known)
	}
	return nil
}

// parsePolicy returns the policy of a name.
func parsePolicy(name string) (sealhttp.Policy, bool) {
	for _, p := range []sealhttp.Policy{sealhttp.Disabled, sealhttp.Optional, sealhttp.RequestRequired, sealhttp.Required} {
		if p.String() == name {
			return p, true
		}
	}
	return 0, false
}

// read checks a key, and makes it one.
func (k *keyRecord) read() error {
	suite, err := seal.ParseSuite(k.Suite)
	if err != nil {
		return err
	}
	var opts []seal.KeyOption
	switch k.Prefix {
	case prefixTink:
	case prefixRaw:
		opts = append(opts, seal.WithoutPrefix())
	default:
		return fmt.Errorf("prefix %q is neither %s nor %s", k.Prefix, prefixTink, prefixRaw)
	}
	if k.key, err = seal.NewPublicKey(suite, k.ID, k.Public, opts...); err != nil {
		return err
	}
	if got := k.key.Fingerprint(); got != k.Fingerprint {
		return fmt.Errorf("its fingerprint is %s, not %q", got, k.Fingerprint)
	}
	switch k.State {
	case Pending:
		if k.Proved != nil {
			return fmt.Errorf("it is %s and proved", Pending)
		}
	case Proved, Current, Previous:
		if k.Proved == nil || k.Challenge != nil {
			return fmt.Errorf("it is %s and not proved", k.State)
		}
	default:
		return fmt.Errorf("state %q is none", k.State)
	}
	if c := k.Challenge; c != nil && (len(c.Hash) != sha256.Size || c.Expires.IsZero() || c.Tries < 1 || c.Tries > challengeTry) {
		return fmt.Errorf("its challenge needs a SHA-256 hash, an expiry, and 1 to %d tries", challengeTry)
	}
	return nil
}

// write returns what is to be stored.
func (r *record) write(revision uint64) (Record, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return Record{}, fmt.Errorf("accounts: the record of account %q: %w", r.Account, err)
	}
	return Record{Account: r.Account, Revision: revision, Data: data}, nil
}

func newKeyRecord(key *seal.PublicKey, approver uint32, now time.Time) *keyRecord {
	prefix := prefixRaw
	if key.HasPrefix() {
		prefix = prefixTink
	}
	return &keyRecord{
		ID:          key.ID(),
		Suite:       key.Suite().String(),
		Prefix:      prefix,
		Public:      key.Bytes(),
		Fingerprint: key.Fingerprint(),
		State:       Pending,
		Approver:    approver,
		Registered:  now,
		key:         key,
	}
}

// event returns an event of the key.
func (k *keyRecord) event(t EventType, by uint32) Event {
	return Event{Type: t, KeyID: k.ID, Fingerprint: k.Fingerprint, By: by}
}

// failure returns the event of a proof or confirmation that was wrong.
func (k *keyRecord) failure(err error) Event {
	e := k.event(EventProofFailed, 0)
	e.Reason = ruleOf(err).code
	return e
}

// lookup returns the key of an id, or nil.
func (r *record) lookup(id uint32) *keyRecord {
	i := slices.IndexFunc(r.Keys, func(k *keyRecord) bool { return k.ID == id })
	if i < 0 {
		return nil
	}
	return r.Keys[i]
}

func (r *record) find(state KeyState) (*keyRecord, bool) {
	i := slices.IndexFunc(r.Keys, func(k *keyRecord) bool { return k.State == state })
	if i < 0 {
		return nil, false
	}
	return r.Keys[i], true
}

// current returns the key that responses are sealed to, or nil.
func (r *record) current() *keyRecord {
	k, _ := r.find(Current)
	return k
}

// approver returns the key in use that is to approve another one, or nil.
func (r *record) approver(id uint32) *keyRecord {
	if k := r.lookup(id); k != nil && k.State.inUse() {
		return k
	}
	return nil
}

// admit checks the rules for a new key that depend on the other ones.
func (r *record) admit(key *seal.PublicKey) error {
	public := key.Bytes()
	for _, k := range r.Keys {
		if k.ID == key.ID() || bytes.Equal(k.Public, public) {
			return fmt.Errorf("accounts: key %d and key %d (%s): %w", key.ID(), k.ID, k.State, seal.ErrDuplicateKey)
		}
	}
	hash := sha256.Sum256(public)
	if slices.ContainsFunc(r.Revoked, func(k *revokedKey) bool { return bytes.Equal(k.Hash, hash[:]) }) {
		return fmt.Errorf("accounts: key %d: %w", key.ID(), ErrRevokedKey)
	}
	waiting := 0
	for _, k := range r.Keys {
		if !k.State.inUse() {
			waiting++
		}
	}
	if waiting >= maxWaiting {
		return fmt.Errorf("accounts: %d keys: %w", waiting, ErrTooManyKeys)
	}
	return nil
}

// use makes a key the current one.
func (r *record) use(k *keyRecord) []Event {
	var events []Event
	if previous, ok := r.find(Previous); ok {
		r.remove(previous)
		events = append(events, previous.event(EventRetired, k.ID))
	}
	if current := r.current(); current != nil {
		current.State = Previous
		events = append(events, current.event(EventReplaced, k.ID))
	}
	r.remove(k)
	k.State = Current
	r.Keys = slices.Insert(r.Keys, 0, k)
	return append(events, r.prune(k.ID)...)
}

// revoke ends a key. The previous key becomes current in the place of a current
// one.
func (r *record) revoke(k *keyRecord, now time.Time) []Event {
	r.remove(k)
	if k.State != Pending {
		hash := sha256.Sum256(k.Public)
		r.Revoked = append(r.Revoked, &revokedKey{ID: k.ID, Hash: hash[:], Time: now})
		r.Revoked = r.Revoked[max(0, len(r.Revoked)-maxRevoked):]
	}
	if previous, ok := r.find(Previous); ok && k.State == Current {
		previous.State = Current
	}
	return append([]Event{k.event(EventKeyRevoked, 0)}, r.prune(0)...)
}

// prune drops the pending keys that can no longer be proved: those without an
// approver once a key is in use, and those whose approver is not.
func (r *record) prune(by uint32) []Event {
	var events []Event
	for _, k := range slices.Clone(r.Keys) {
		if k.State == Pending && r.checkApproval(k) != nil {
			r.remove(k)
			events = append(events, k.event(EventRetired, by))
		}
	}
	return events
}

// checkApproval reports why a key could not come into use by a proof.
func (r *record) checkApproval(k *keyRecord) error {
	switch {
	case k.Approver != 0 && r.approver(k.Approver) == nil:
		return fmt.Errorf("accounts: key %d: %w", k.Approver, ErrApprover)
	case k.Approver == 0 && r.current() != nil:
		return fmt.Errorf("accounts: key %d: %w", k.ID, ErrApprovalNeeded)
	}
	return nil
}

func (r *record) remove(k *keyRecord) {
	r.Keys = slices.DeleteFunc(r.Keys, func(other *keyRecord) bool { return other == k })
}
