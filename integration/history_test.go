package integration_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/sqlstore"
)

// newDatabase makes the tables, and has the database remember every state of a ring:
// who looks from outside would miss some.
func newDatabase(t *testing.T, db *sql.DB) {
	t.Helper()
	store, err := sqlstore.New(db, sqlstore.PostgreSQL)
	check(t, err)
	check(t, store.Migrate(t.Context()))
	_, err = db.Exec(`
		CREATE TABLE history (id BIGSERIAL PRIMARY KEY, revision BIGINT NOT NULL, data BYTEA NOT NULL);
		CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN
				INSERT INTO history (revision, data) VALUES (NEW.revision, NEW.data);
				RETURN NULL;
			END $$;
		CREATE TRIGGER remember AFTER INSERT OR UPDATE ON sealhttp_keyrings
			FOR EACH ROW EXECUTE FUNCTION remember()`)
	check(t, err)
}

// state is a stored state of the ring, as far as the tests read it.
type state struct {
	Revision uint64
	Serial   uint64
	Keys     []storedKey
	events   []change
}

type storedKey struct {
	ID                          uint32
	State                       keyring.KeyState
	Created, Promoted, Replaced time.Time
	Retired                     time.Time
	Revoked                     bool
	Public, Private             []byte
}

// live returns the keys that are not retired.
func (s *state) live() map[uint32]storedKey {
	live := make(map[uint32]storedKey)
	for _, k := range s.Keys {
		if k.State != keyring.Retired {
			live[k.ID] = k
		}
	}
	return live
}

// reinstated reports whether a replica wrote back what it had.
func (s *state) reinstated() bool {
	return slices.ContainsFunc(s.events, func(c change) bool { return c.event == keyring.EventReinstated })
}

func (s *state) primary() uint32 {
	for _, k := range s.Keys {
		if k.State == keyring.Primary {
			return k.ID
		}
	}
	return 0
}

func (s *state) find(id uint32) (storedKey, bool) {
	for _, k := range s.Keys {
		if k.ID == id {
			return k, true
		}
	}
	return storedKey{}, false
}

// history returns every state that the ring has had, in order, each with the events
// that the audit table has of it.
func history(t *testing.T, db *sql.DB) []state {
	t.Helper()
	rows, err := db.Query(`SELECT revision, data FROM history ORDER BY id`)
	check(t, err)
	defer rows.Close()
	trail := audit(t, db, "keyring", ringName)
	var states []state
	for rows.Next() {
		var revision uint64
		var data []byte
		check(t, rows.Scan(&revision, &data))
		var s state
		check(t, json.Unmarshal(data, &s))
		if s.Revision != revision {
			t.Errorf("revision %d was stored as %d", s.Revision, revision)
		}
		for len(trail) > 0 && trail[0].revision == revision && trail[0].n == len(s.events) {
			s.events = append(s.events, trail[0].change)
			trail = trail[1:]
		}
		states = append(states, s)
	}
	check(t, rows.Err())
	if len(trail) > 0 {
		t.Errorf("the audit table tells of what never was: %v", trail)
	}
	return states
}

// change is what an audit event says of a key.
type change struct {
	event keyring.EventType
	key   uint32
}

// changes returns the events that lead from one state to the next.
func changes(before, after *state) []change {
	var list []change
	old := before.live()
	for _, k := range after.Keys {
		was, ok := old[k.ID]
		if k.State == keyring.Retired && !ok {
			continue // it has been for long
		}
		switch {
		case !ok:
			list = append(list, change{keyring.EventGenerated, k.ID})
		case k.State == keyring.Retired && k.Revoked:
			list = append(list, change{keyring.EventRevoked, k.ID})
		case k.State == keyring.Retired:
			list = append(list, change{keyring.EventRetired, k.ID})
		case k.State == keyring.Pending && !k.Created.Equal(was.Created):
			list = append(list, change{keyring.EventPostponed, k.ID})
		}
		if k.State == keyring.Primary && was.State != keyring.Primary {
			list = append(list, change{keyring.EventPublished, k.ID}, change{keyring.EventPromoted, k.ID})
		}
	}
	return list
}

// checkHistory checks every state that the ring has had: it has one primary, no key
// is missing, and none retired before its time unless it was revoked.
func checkHistory(t *testing.T, states []state, overlap time.Duration) {
	t.Helper()
	for i, s := range states {
		primaries := 0
		for _, k := range s.Keys {
			if k.State == keyring.Primary {
				primaries++
			}
			if (k.State == keyring.Retired) != (k.Private == nil) {
				t.Errorf("revision %d: key %d is %s, with a private half of %d bytes", s.Revision, k.ID, k.State, len(k.Private))
			}
		}
		if primaries != 1 {
			t.Errorf("revision %d has %d primaries", s.Revision, primaries)
		}
		if i == 0 {
			continue
		}
		// What a replica writes back may be without the last change, if it has not heard
		// of that.
		if s.Serial <= states[i-1].Serial && !s.reinstated() {
			t.Errorf("serial %d comes after %d", s.Serial, states[i-1].Serial)
		}
		for id, was := range states[i-1].live() {
			k, ok := s.find(id)
			switch {
			case !ok && s.reinstated() && was.State == keyring.Pending: // no caller had heard of it
			case !ok:
				t.Errorf("revision %d: key %d is lost", s.Revision, id)
			case k.State != keyring.Retired || k.Revoked:
			case was.State != keyring.Previous:
				t.Errorf("revision %d: key %d retired as %s", s.Revision, id, was.State)
			case k.Retired.Sub(k.Replaced) < overlap-10*time.Millisecond:
				t.Errorf("revision %d: key %d retired %v after it was replaced, not %v", s.Revision, id, k.Retired.Sub(k.Replaced), overlap)
			}
		}
	}
}

// auditRow is a row of the audit table.
type auditRow struct {
	revision uint64
	n        int
	change
}

func audit(t *testing.T, db *sql.DB, kind, subject string) []auditRow {
	t.Helper()
	rows, err := db.Query(`SELECT revision, n, event, key_id FROM sealhttp_audit WHERE kind = $1 AND subject = $2 ORDER BY id`, kind, subject)
	check(t, err)
	defer rows.Close()
	var trail []auditRow
	for rows.Next() {
		var r auditRow
		check(t, rows.Scan(&r.revision, &r.n, &r.event, &r.key))
		trail = append(trail, r)
	}
	check(t, rows.Err())
	return trail
}

// checkAudit checks that the audit table tells every change of the ring, and nothing
// else.
func checkAudit(t *testing.T, states []state) {
	t.Helper()
	before := &state{}
	for i := range states {
		s := &states[i]
		want := changes(before, s)
		if s.reinstated() { // see checkHistory
			want = []change{{keyring.EventReinstated, s.primary()}}
		}
		if got := slices.Clone(s.events); !slices.Equal(sorted(got), sorted(want)) {
			t.Errorf("revision %d: the audit table tells %v, and the change was %v", s.Revision, got, want)
		}
		before = s
	}
}

func sorted(list []change) []change {
	return slices.SortedFunc(slices.Values(list), func(a, b change) int { return strings.Compare(a.String(), b.String()) })
}

// checkAccounts checks that every revision of every account has its events.
func checkAccounts(t *testing.T, db *sql.DB) (accounts int) {
	t.Helper()
	rows, err := db.Query(`SELECT account, revision FROM sealhttp_accounts`)
	check(t, err)
	revisions := make(map[string]uint64)
	for rows.Next() {
		var account string
		var revision uint64
		check(t, rows.Scan(&account, &revision))
		revisions[account] = revision
	}
	check(t, rows.Err())
	check(t, rows.Close())
	for account, last := range revisions {
		var told []uint64
		for _, r := range audit(t, db, "account", account) {
			told = append(told, r.revision)
		}
		told = slices.Compact(told)
		if uint64(len(told)) != last || !slices.IsSorted(told) || told[0] != 1 || told[len(told)-1] != last {
			t.Errorf("account %q is at revision %d, and the trail tells of %v", account, last, told)
		}
	}
	return len(revisions)
}

func (c change) String() string { return fmt.Sprintf("%s %d", c.event, c.key) }
