package accounts

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/sealhttp/sealhttp"
)

// maxBody is the largest body of a request in bytes. An X-Wing key in a Tink
// keyset has less than 3 KiB.
const maxBody = 64 << 10

// Handler returns a JSON API with which callers look after their own keys, or a
// page of theirs does:
//
//	GET    /keys                 200: account, policy and keys
//	POST   /keys                 register a KeyForm; beside its members, replaces is the id of
//	                             the key that approves it. 201: the key, pending
//	POST   /keys/{id}/challenge  for a pending key. 200: a Challenge
//	POST   /keys/{id}/proof      {"proof": what was in it, in base64}. 200: the key
//	DELETE /keys/{id}            revoke. 204
//
// A POST has Content-Type application/json, even without a body. A key is
//
//	{
//	  "id": 3735928559,
//	  "suite": "X25519-AES256GCM",
//	  "prefix": true,               its messages start with Tink's prefix
//	  "fingerprint": "65374-28474-48019-01216-58043-01122-07886-01784",
//	  "state": "current",           a KeyState
//	  "approver": 42,               left out if no key has to approve it
//	  "registered": "2026-05-01T12:00:00Z",
//	  "proved": "2026-05-01T12:00:01Z"   left out until it is
//	}
//
// It goes behind the API's own authentication, which puts the account into the
// context (sealhttp.ContextWithAccount), and its prefix is to be stripped:
//
//	mux.Handle("/encryption/", authenticate(http.StripPrefix("/encryption", registry.Handler())))
//
// Callers reach it with a plain http.Client: a Transport of sealhttp would seal what
// this API reads as JSON.
//
// It shows and changes nothing but the account of the request. Policies are not
// for callers to change. How often it may be called is the API's own to limit.
//
// A message of a challenge and a proof are in base64, and the info that a challenge
// is to be opened with is not sent: see [ChallengeInfo] and [ApprovalInfo].
//
// Errors are application/problem+json (RFC 9457), with a member code that stays
// what it is:
//
//	400  malformed_request, account
//	401  unauthenticated
//	403  cross_origin
//	404  not_found, no_such_key
//	405  method_not_allowed
//	409  duplicate_key, revoked_key, too_many_keys, approval_needed, approver_not_in_use,
//	     already_proved, no_challenge, challenge_expired
//	413  too_large
//	415  not_json
//	422  malformed_key, unsupported_key, private_key, server_key, unknown_suite, key_id, key_length,
//	     not_on_curve, low_order, not_canonical, wrong_proof
//	500  record_unreadable
//	503  busy, store_unavailable
//
// Nothing in them is a part of the request. Changes are refused to pages of other
// origins, by Sec-Fetch-Site and Origin (see [http.CrossOriginProtection] and
// [WithTrustedOrigins]) and since bodies must be JSON, which a form cannot send.
func (r *Registry) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, req *http.Request) {
			if err := h(w, req); err != nil {
				r.writeProblem(w, req, err)
			}
		})
	}
	handle("GET /keys", r.serveList)
	handle("POST /keys", r.serveRegister)
	handle("POST /keys/{id}/challenge", r.serveChallenge)
	handle("POST /keys/{id}/proof", r.serveProof)
	handle("DELETE /keys/{id}", r.serveRevoke)
	for pattern, allow := range map[string]string{
		"/keys":                "GET, HEAD, POST",
		"/keys/{id}":           "DELETE",
		"/keys/{id}/challenge": "POST",
		"/keys/{id}/proof":     "POST",
	} {
		handle(pattern, func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Allow", allow)
			return errMethod
		})
	}
	handle("/", func(http.ResponseWriter, *http.Request) error { return errNoResource })
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		switch {
		case r.crossOrigin.Check(req) != nil:
			r.writeProblem(w, req, errCrossOrigin)
		case sealhttp.Account(req.Context()) == "":
			r.writeProblem(w, req, errUnauthenticated)
		default:
			mux.ServeHTTP(w, req)
		}
	})
}

// The bodies of requests and responses.
type (
	registration struct {
		KeyForm
		Replaces uint32 `json:"replaces,omitempty"`
	}
	proof struct {
		Proof string `json:"proof"`
	}
	nothing struct{}

	accountJSON struct {
		Account string    `json:"account"`
		Policy  string    `json:"policy"`
		Keys    []keyJSON `json:"keys"`
	}
	keyJSON struct {
		ID          uint32     `json:"id"`
		Suite       string     `json:"suite"`
		Prefix      bool       `json:"prefix"` // its messages start with Tink's prefix
		Fingerprint string     `json:"fingerprint"`
		State       KeyState   `json:"state"`
		Approver    uint32     `json:"approver,omitempty"`
		Registered  time.Time  `json:"registered"`
		Proved      *time.Time `json:"proved,omitempty"`
	}
	problem struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
		Code   string `json:"code"`
	}
)

func (k Key) asJSON() keyJSON {
	j := keyJSON{
		ID:          k.ID(),
		Suite:       k.Public.Suite().String(),
		Prefix:      k.Public.HasPrefix(),
		Fingerprint: k.Fingerprint(),
		State:       k.State,
		Approver:    k.Approver,
		Registered:  k.Registered,
	}
	if !k.Proved.IsZero() {
		j.Proved = &k.Proved
	}
	return j
}

func (r *Registry) serveList(w http.ResponseWriter, req *http.Request) error {
	a, err := r.List(req.Context(), sealhttp.Account(req.Context()))
	if err != nil {
		return err
	}
	body := accountJSON{Account: a.Name, Policy: a.Policy.String(), Keys: []keyJSON{}}
	for _, k := range a.Keys {
		body.Keys = append(body.Keys, k.asJSON())
	}
	return writeJSON(w, http.StatusOK, body)
}

func (r *Registry) serveRegister(w http.ResponseWriter, req *http.Request) error {
	var body registration
	if err := readBody(w, req, &body); err != nil {
		return err
	}
	k, err := r.register(req.Context(), sealhttp.Account(req.Context()), body.Replaces, body.KeyForm)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, k.asJSON())
}

func (r *Registry) serveChallenge(w http.ResponseWriter, req *http.Request) error {
	id, err := pathID(req)
	if err != nil {
		return err
	}
	if err := readBody(w, req, &nothing{}); err != nil {
		return err
	}
	c, err := r.Challenge(req.Context(), sealhttp.Account(req.Context()), id)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, c)
}

func (r *Registry) serveProof(w http.ResponseWriter, req *http.Request) error {
	id, err := pathID(req)
	if err != nil {
		return err
	}
	var body proof
	if err := readBody(w, req, &body); err != nil {
		return err
	}
	opened, err := decodeBase64(body.Proof)
	if err != nil {
		return errBadRequest
	}
	k, err := r.Prove(req.Context(), sealhttp.Account(req.Context()), id, opened)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, k.asJSON())
}

func (r *Registry) serveRevoke(w http.ResponseWriter, req *http.Request) error {
	id, err := pathID(req)
	if err != nil {
		return err
	}
	if err := r.Revoke(req.Context(), sealhttp.Account(req.Context()), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func pathID(req *http.Request) (uint32, error) {
	id, err := strconv.ParseUint(req.PathValue("id"), 10, 32)
	if err != nil {
		return 0, ErrNoKey
	}
	return uint32(id), nil
}

// readBody reads a JSON body into v. No body is an empty object.
func readBody(w http.ResponseWriter, req *http.Request, v any) error {
	mediaType, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" || len(req.Header["Content-Type"]) != 1 {
		return errNotJSON
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge
	case err != nil:
		return errBadRequest
	case len(body) == 0:
		return nil
	case decodeJSON(body, v) != nil:
		return errBadRequest
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a caller that is gone needs no answer
	return nil
}

// problemTypes is what the code of a problem is appended to for its "type".
const problemTypes = "https://github.com/sealhttp/sealhttp/blob/main/docs/errors.md#"

func (r *Registry) writeProblem(w http.ResponseWriter, req *http.Request, err error) {
	rule := ruleOf(err)
	if rule.status >= 500 {
		r.log().LogAttrs(req.Context(), slog.LevelError, "accounts: a request failed",
			slog.String("code", rule.code), slog.Any("error", err))
	}
	body, err := json.Marshal(problem{problemTypes + rule.code, rule.title, rule.status, rule.detail, rule.code})
	if err != nil { // unreachable: strings and a number
		http.Error(w, rule.title, rule.status)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	if rule.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	w.WriteHeader(rule.status)
	_, _ = w.Write(append(body, '\n'))
}
