package accounts

import (
	"errors"
	"net/http"

	"github.com/sealhttp/sealhttp/seal"
	"github.com/sealhttp/sealhttp/tinkkeys"
)

// Why a key was refused, besides the rules of package seal, whose errors come
// through: seal.ErrUnknownSuite, ErrKeyID, ErrKeyLength, ErrNotOnCurve, ErrLowOrder,
// ErrNotCanonical and ErrDuplicateKey.
var (
	// ErrKeyForm is a key that cannot be read: it is not of the form it was given as.
	ErrKeyForm = errors.New("the key cannot be read")
	// ErrUnsupportedKey is a key that may be good elsewhere, but is of no kind that
	// responses can be sealed to, or is meant for something else.
	ErrUnsupportedKey = errors.New("a key of this kind is not supported")
	// ErrPrivateKey is a private or symmetric key in the place of a public one. It
	// has been shown to others, and must not be used any more.
	ErrPrivateKey = errors.New("a private key in the place of a public one")
	// ErrServerKey is a key of this server: a caller cannot have its private half.
	ErrServerKey = errors.New("the key is the server's own")
	// ErrRevokedKey is a key that the account has revoked before.
	ErrRevokedKey = errors.New("the key was revoked")
	// ErrTooManyKeys is a registration by an account with 5 keys that wait to be
	// proved or confirmed.
	ErrTooManyKeys = errors.New("too many keys wait to be proved or confirmed")
	// ErrApprovalNeeded is a registration without the approval of a key that is in
	// use: see [Registry.Replace].
	ErrApprovalNeeded = errors.New("the account has a key in use, which must approve another one")
	// ErrApprover is a replacement to be approved by a key that is not in use.
	ErrApprover = errors.New("the approving key is not in use")
)

// Why a step of a key's way was refused.
var (
	// ErrAccount is a name that no account can have.
	ErrAccount = errors.New("an account is 1 to 512 bytes of UTF-8 without control characters")
	// ErrNoKey is an id that no key of the account has.
	ErrNoKey = errors.New("the account has no key of this id")
	// ErrAlreadyProved is a challenge for a key that has been proved.
	ErrAlreadyProved = errors.New("the key has been proved")
	// ErrNoChallenge is a proof without a challenge before it, or after too many
	// wrong ones.
	ErrNoChallenge = errors.New("the key has no open challenge")
	// ErrChallengeExpired is a proof that comes too late.
	ErrChallengeExpired = errors.New("the challenge has expired")
	// ErrWrongProof is a proof that is not what was sealed in the challenge.
	ErrWrongProof = errors.New("the proof is wrong")
	// ErrNotProved is a confirmation of a key that has not been proved.
	ErrNotProved = errors.New("the key does not wait to be confirmed")
	// ErrFingerprint is a confirmation with the fingerprint of another key.
	ErrFingerprint = errors.New("the fingerprint is that of another key")
	// ErrNoKeyInUse is policy Required for an account that no response can be
	// sealed to: see [EvenWithoutKey].
	ErrNoKeyInUse = errors.New("the account has no key in use, so that Required would refuse all its calls")
)

// What a [Store] says, and what is wrong with what it has.
var (
	// ErrNotFound is wrapped by a store's Load for an account without a record.
	ErrNotFound = errors.New("no record")
	// ErrConflict is wrapped by a store's Swap if the record is no longer the one
	// that the change started from. A Registry tries again; it returns ErrConflict
	// if others are always faster.
	ErrConflict = errors.New("the record has changed")
	// ErrRecord is a stored record, or a store's file, that breaks the rules of its
	// format: somebody has edited it by hand, or it is damaged. Nothing is
	// overwritten.
	ErrRecord = errors.New("bad record")
	// ErrVersion is a stored record, or a store's file, in a version of the format
	// that this program does not know. Nothing is overwritten.
	ErrVersion = errors.New("unknown version of the stored format")
)

// rule is what a caller is told of an error. Nothing of it depends on what was
// sent.
type rule struct {
	err    error
	code   string
	status int
	title  string
	detail string
}

// rules are in the order in which they are looked for: an error may wrap two.
var rules = []rule{
	{ErrPrivateKey, "private_key", 422, "This is a private key",
		"Nothing was stored. The key has been shown to others: do not use it any more, make a new one, and register its public half."},
	{tinkkeys.ErrPrivateKey, "private_key", 422, "This is a private key",
		"Nothing was stored. The key has been shown to others: do not use it any more, make a new one, and register its public half."},
	{seal.ErrUnknownSuite, "unknown_suite", 422, "The suite is not known", "Use one of the suites that the API names, such as X25519-AES256GCM."},
	{seal.ErrKeyID, "key_id", 422, "The key id is 0", "Key ids are 1 to 4294967295."},
	{seal.ErrKeyLength, "key_length", 422, "The key has the wrong length", "A public key has 32 bytes for X25519, 65 for P-256 and 1216 for X-Wing."},
	{seal.ErrNotOnCurve, "not_on_curve", 422, "The key is no point of the curve", "A P-256 public key is an uncompressed point on the curve, other than the identity."},
	{seal.ErrLowOrder, "low_order", 422, "The key has low order", "Everyone could compute what is shared with such an X25519 point."},
	{seal.ErrNotCanonical, "not_canonical", 422, "The key is not in canonical form", "What is sealed to this encoding of the key could not be opened."},
	{seal.ErrDuplicateKey, "duplicate_key", 409, "The key is already there", "The account has this key, or one of this id."},
	{tinkkeys.ErrUnsupported, "unsupported_key", 422, "Keys of this kind are not supported", "Use an HPKE key of one of the suites that the API names, with Tink's output prefix type TINK or RAW."},
	{ErrUnsupportedKey, "unsupported_key", 422, "Keys of this kind are not supported", "Use a key for encryption on X25519 or P-256."},
	{tinkkeys.ErrKeyset, "malformed_key", 422, "The key cannot be read", "This is no Tink keyset of public keys in JSON."},
	{ErrKeyForm, "malformed_key", 422, "The key cannot be read", "Give one key: a Tink keyset as tink, base64 as raw together with suite, or a JWK as jwk."},
	{ErrServerKey, "server_key", 422, "This is a key of the server", "Register the public half of a key that you have made yourself."},
	{ErrRevokedKey, "revoked_key", 409, "The key was revoked", "A revoked key cannot be registered again. Make a new one."},
	{ErrTooManyKeys, "too_many_keys", 409, "Too many keys wait to be proved or confirmed", "Prove them, or revoke those that are not needed."},
	{ErrApprovalNeeded, "approval_needed", 409, "A key in use must approve this one", "Register it as the replacement of a key in use, with replaces. If that key is lost, revoke it first."},
	{ErrApprover, "approver_not_in_use", 409, "The approving key is not in use", "Only the current and the previous key can approve a replacement."},
	{ErrNoKey, "no_such_key", 404, "There is no such key", "The account has no key of this id."},
	{ErrAlreadyProved, "already_proved", 409, "The key has been proved", "There is nothing left to prove."},
	{ErrNoChallenge, "no_challenge", 409, "There is no open challenge", "Ask for a challenge, open it, and send what was in it, once."},
	{ErrChallengeExpired, "challenge_expired", 409, "The challenge has expired", "Ask for a new one."},
	{ErrWrongProof, "wrong_proof", 422, "The proof is wrong", "Open the challenge with the registered key and with the info that belongs to it, and send the 32 bytes in base64."},
	{ErrNotProved, "not_proved", 409, "The key does not wait to be confirmed", "Only a key that was proved can be confirmed."},
	{ErrFingerprint, "wrong_fingerprint", 422, "The fingerprint is that of another key", "Compare all eight groups."},
	{ErrNoKeyInUse, "no_key_in_use", 409, "The account has no key in use", "Required would refuse all its calls."},
	{ErrAccount, "account", 400, "No account has this name", "An account is 1 to 512 bytes of UTF-8 without control characters."},

	{errUnauthenticated, "unauthenticated", 401, "Who is calling is not known", "Authenticate as you do for the rest of the API."},
	{errCrossOrigin, "cross_origin", 403, "A request from another site", "Changes are taken from this API's own pages only."},
	{errNotJSON, "not_json", 415, "The body is not JSON", "Send Content-Type: application/json."},
	{errBadRequest, "malformed_request", 400, "The request cannot be read", "Send a JSON object with the members that this call has, each once."},
	{errTooLarge, "too_large", 413, "The request is too large", "A request has at most 64 KiB."},
	{errNoResource, "not_found", 404, "There is no such resource", ""},
	{errMethod, "method_not_allowed", 405, "The method is not allowed here", ""},

	{ErrConflict, "busy", 503, "The account is being changed by others", "Try again later."},
	{ErrRecord, "record_unreadable", 500, "The account's record cannot be read", "The operator has been told."},
	{ErrVersion, "record_unreadable", 500, "The account's record cannot be read", "The operator has been told."},
}

// unavailable is the rule for every other error.
var unavailable = rule{nil, "store_unavailable", http.StatusServiceUnavailable, "The keys are not available", "Try again later."}

// The errors of requests to the [Registry.Handler].
var (
	errUnauthenticated = errors.New("no account")
	errCrossOrigin     = errors.New("cross-origin request")
	errNotJSON         = errors.New("not JSON")
	errBadRequest      = errors.New("malformed request")
	errTooLarge        = errors.New("request too large")
	errNoResource      = errors.New("no such resource")
	errMethod          = errors.New("method not allowed")
)

func ruleOf(err error) rule {
	for _, r := range rules {
		if errors.Is(err, r.err) {
			return r
		}
	}
	return unavailable
}
