package accounts

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sealhttp/sealhttp/seal"
)

const (
	challengeLen  = 32               // bytes: what is in a challenge
	challengeLife = 10 * time.Minute // how long it can be answered
	challengeTry  = 3                // how often
)

// Challenge is a message that only the holder of a registered key can open, or,
// for a replacement, only who holds that key and the one that approves it. What is
// in it is the proof: 32 random bytes, of which the store has only a hash. It can
// be answered for 10 minutes, once, with 3 attempts. As JSON it is what the
// [Registry.Handler] answers with.
type Challenge struct {
	// KeyID is the id of the key that is to be proved.
	KeyID uint32 `json:"key_id"`
	// Approver is the id of the key that is to approve it, 0 if none has to.
	Approver uint32 `json:"approver,omitempty"`
	// Message is sealed to the key with [ChallengeInfo]. With an Approver, that
	// message is sealed again, to the Approver with [ApprovalInfo].
	Message []byte `json:"message"`
	// Expires is when it can no longer be answered.
	Expires time.Time `json:"expires"`
}

// ChallengeInfo is HPKE's info of a challenge: who opens one makes it anew, from
// the account that it believes to be its own and the key that it has, and so
// answers nobody who asks for another account:
//
//	"sealhttp accounts challenge v1" 0x00 account 0x00 id 0x00 fingerprint
//
// with the key's id in decimal and its fingerprint as [seal.PublicKey.Fingerprint]
// gives it. A message of the API itself cannot be one: its info must not start
// with "sealhttp ".
func ChallengeInfo(account string, key *seal.PublicKey) []byte {
	return challengeInfo("challenge", account, key)
}

// ApprovalInfo is HPKE's info of what an approving key opens. It is that of
// [ChallengeInfo] with "approval" in the place of "challenge", and key is the new
// key: the approval is for this key and no other.
func ApprovalInfo(account string, key *seal.PublicKey) []byte {
	return challengeInfo("approval", account, key)
}

func challengeInfo(purpose, account string, key *seal.PublicKey) []byte {
	id := strconv.FormatUint(uint64(key.ID()), 10)
	return []byte("sealhttp accounts " + purpose + " v1\x00" + account + "\x00" + id + "\x00" + key.Fingerprint())
}

// Open returns what is in the challenge, on the caller's side: what
// [Registry.Prove] takes. key is the private key that is to be proved; for a
// replacement approver is the one that approves it. account must be the caller's
// own name, not one that came with the challenge.
func (c *Challenge) Open(account string, key *seal.PrivateKey, approver ...*seal.PrivateKey) ([]byte, error) {
	if key == nil || key.ID() != c.KeyID {
		return nil, fmt.Errorf("accounts: the challenge is for key %d", c.KeyID)
	}
	message := c.Message
	if c.Approver != 0 {
		var old *seal.PrivateKey
		for _, k := range approver {
			if k != nil && k.ID() == c.Approver {
				old = k
			}
		}
		if old == nil {
			return nil, fmt.Errorf("accounts: the challenge is to be approved by key %d", c.Approver)
		}
		var err error
		if message, err = old.Open(nil, message, ApprovalInfo(account, key.Public())); err != nil {
			return nil, fmt.Errorf("accounts: the challenge asks for the approval of another key or account: %w", err)
		}
	}
	opened, err := key.Open(nil, message, ChallengeInfo(account, key.Public()))
	if err != nil {
		return nil, fmt.Errorf("accounts: the challenge is for another key or account: %w", err)
	}
	if len(opened) != challengeLen {
		return nil, errors.New("accounts: the challenge is none")
	}
	return opened, nil
}

// openChallenge is what the store has of a challenge.
type openChallenge struct {
	Hash    []byte    `json:"sha256"`
	Expires time.Time `json:"expires"`
	Tries   int       `json:"tries"` // left
}

// newChallenge makes a challenge for a key, and approver if it is not nil.
func newChallenge(account string, key, approver *seal.PublicKey, now time.Time) (*Challenge, *openChallenge, error) {
	secret := make([]byte, challengeLen)
	rand.Read(secret) // never fails, see crypto/rand
	message, err := key.Seal(nil, secret, ChallengeInfo(account, key))
	if err != nil {
		return nil, nil, fmt.Errorf("accounts: challenge: %w", err)
	}
	c := &Challenge{KeyID: key.ID(), Message: message, Expires: now.Add(challengeLife)}
	if approver != nil {
		c.Approver = approver.ID()
		if c.Message, err = approver.Seal(nil, message, ApprovalInfo(account, key)); err != nil {
			return nil, nil, fmt.Errorf("accounts: challenge: %w", err)
		}
	}
	hash := sha256.Sum256(secret)
	return c, &openChallenge{Hash: hash[:], Expires: c.Expires, Tries: challengeTry}, nil
}

// answers reports whether opened is what was in the challenge.
func (c *openChallenge) answers(opened []byte) bool {
	hash := sha256.Sum256(opened)
	return subtle.ConstantTimeCompare(hash[:], c.Hash) == 1
}
