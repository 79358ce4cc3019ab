package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/api/option"

	"github.com/sealhttp/sealhttp"
	"github.com/sealhttp/sealhttp/accounts"
	"github.com/sealhttp/sealhttp/internal/postgres"
	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/sqlstore"
)

// fake is a KMS with two keys.
type fake struct {
	*hsm
	name       string // of the first key, within the hsm
	kek, other string // the keys' URIs
	google     []option.ClientOption
}

// localFiles has keys in files in the place of a KMS.
func localFiles(t *testing.T) *fake {
	dir := t.TempDir()
	return &fake{kek: "file:" + filepath.Join(dir, "one.kek"), other: "file:" + filepath.Join(dir, "two.kek")}
}

// program runs the program, and returns what it printed.
func (f *fake) program(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out lockedBuffer
	err := run(t.Context(), args, &out, f.google...)
	return out.String(), err
}

func (f *fake) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := f.program(t, args...)
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return out
}

// keys returns the ids of the keys of a state in what the program printed last.
func keys(out, state string) []string {
	_, list, _ := strings.Cut(out, "\nring ") // behind events
	if list == "" {
		list = out
	}
	var ids []string
	for _, m := range regexp.MustCompile(`(?m)^`+state+` +(\d+)  X25519-AES256GCM  [\d-]{47}$`).FindAllStringSubmatch(list, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

// primary returns the id of the one primary key.
func primary(t *testing.T, out string) string {
	t.Helper()
	ids := keys(out, "primary")
	if len(ids) != 1 {
		t.Fatalf("want one primary key:\n%s", out)
	}
	return ids[0]
}

// promote runs the program's run until the pending key is the primary.
func (f *fake) promote(t *testing.T, args ...string) string {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	var out lockedBuffer
	done := make(chan error)
	go func() { done <- run(ctx, append(args, "-lead", "100ms", "run"), &out, f.google...) }()
	for ctx.Err() == nil && !strings.Contains(out.String(), "promoted: ") {
		time.Sleep(5 * time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Errorf("the key was not promoted:\n%s", out.String())
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestKeyLife opens, rotates and rewraps a ring with each kind of key-encryption key.
func TestKeyLife(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *fake{
		"local file": localFiles, "AWS KMS": awsKMS, "Google Cloud KMS": googleKMS, "Vault": vaultTransit,
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			ring := filepath.Join(t.TempDir(), "ring")
			first := primary(t, f.must(t, "-kek", f.kek, "-store", ring, "status"))
			if again := primary(t, f.must(t, "-kek", f.kek, "-store", ring, "status")); again != first {
				t.Fatalf("opened again, the primary is %s, not %s", again, first)
			}

			next := keys(f.must(t, "-kek", f.kek, "-store", ring, "rotate"), "pending")
			if len(next) != 1 {
				t.Fatalf("%d keys are pending", len(next))
			}
			out := f.promote(t, "-kek", f.kek, "-store", ring)
			if got := primary(t, out); got != next[0] || fmt.Sprint(keys(out, "previous")) != "["+first+"]" {
				t.Fatalf("want %s as primary, and %s as previous key:\n%s", next[0], first, out)
			}

			before := read(t, ring)
			f.must(t, "-kek", f.other, "-old", f.kek, "-store", ring, "rewrap")
			if got := primary(t, f.must(t, "-kek", f.other, "-store", ring, "status")); got != next[0] {
				t.Errorf("rewrapped, the primary is %s, not %s", got, next[0])
			}
			after := read(t, ring)
			out, err := f.program(t, "-kek", f.kek, "-store", ring, "status")
			if !errors.Is(err, keyring.ErrKEK) {
				t.Errorf("with the old key-encryption key: %v, want ErrKEK", err)
			}
			if len(out) > 0 || !bytes.Equal(read(t, ring), after) || bytes.Equal(before, after) {
				t.Errorf("with the old key-encryption key something has changed:\n%s", out)
			}
			out = f.must(t, "-kek", f.other, "-store", ring, "revoke", next[0])
			if got := primary(t, out); got == next[0] || fmt.Sprint(keys(out, "retired")) != "["+next[0]+"]" {
				t.Errorf("revoked, %s is not retired:\n%s", next[0], out)
			}
			if f.hsm != nil {
				f.checkKMS(t, ring)
			}
		})
	}
}

// checkKMS checks what only a KMS has: versions, permissions, and a log of its own.
func (f *fake) checkKMS(t *testing.T, ring string) {
	t.Helper()
	for _, data := range f.calls() {
		if !bytes.HasPrefix(data, []byte("sealhttp keyring v1 ")) {
			t.Fatalf("a call is bound to %q, and not to ring and key", data)
		}
	}

	// The KMS rotates its key: everything opens as before. Once rewrap has encrypted all
	// anew, the old version is not needed any more.
	f.must(t, "-kek", f.kek, "-old", f.other, "-store", ring, "rewrap")
	f.newVersion(t, f.name)
	want := primary(t, f.must(t, "-kek", f.kek, "-store", ring, "status"))
	f.must(t, "-kek", f.kek, "-store", ring, "rewrap")
	f.destroyFirst(f.name)
	if got := primary(t, f.must(t, "-kek", f.kek, "-store", ring, "status")); got != want {
		t.Errorf("the primary is %s, not %s", got, want)
	}

	// It does not let us in: the program says so, and the ring stays what it is.
	before := read(t, ring)
	f.deny(true)
	_, err := f.program(t, "-kek", f.kek, "-store", ring, "status")
	if !errors.Is(err, keyring.ErrKEK) || !strings.Contains(err.Error(), errDenied.Error()) {
		t.Errorf("access denied: %v", err)
	}
	if _, err := f.program(t, "-kek", f.kek, "-store", ring+"2", "status"); !errors.Is(err, keyring.ErrKEK) {
		t.Errorf("access denied, for a new ring: %v", err)
	}
	if _, err := os.Stat(ring + "2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a ring that could not be encrypted was stored: %v", err)
	}
	if !bytes.Equal(read(t, ring), before) {
		t.Error("the ring has changed")
	}
}

// TestReplicas has three replicas in one PostgreSQL database, and a rotation that is
// asked for from outside.
func TestReplicas(t *testing.T) {
	f := vaultTransit(t)
	args := []string{"-kek", f.kek, "-store", postgres.DSN(postgres.Start(t).Addr(), "postgres"), "-name", "api", "-lead", "200ms"}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var wg sync.WaitGroup
	replicas := make([]lockedBuffer, 3)
	for i := range replicas {
		wg.Go(func() {
			if err := run(ctx, append(args, "run"), &replicas[i], f.google...); err != nil {
				t.Errorf("replica %d: %v", i, err)
			}
		})
	}
	next := keys(f.must(t, append(args, "rotate")...), "pending")
	if len(next) != 1 {
		t.Fatalf("%d keys are pending", len(next))
	}
	for ctx.Err() == nil && primary(t, f.must(t, append(args, "status")...)) != next[0] {
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond) // two reload intervals
	stop()
	wg.Wait()
	promoted := 0
	for i := range replicas {
		if got := primary(t, replicas[i].String()); got != next[0] {
			t.Errorf("replica %d ends with primary %s, not %s", i, got, next[0])
		}
		promoted += strings.Count(replicas[i].String(), "promoted: key "+next[0]+",")
	}
	if promoted != 1 {
		t.Errorf("%d replicas have promoted the key, want one", promoted)
	}
}

// TestGrants runs as a role that has the rights of docs/keys.md, and no others: all of
// it works but the migration, and the audit trail cannot be altered.
func TestGrants(t *testing.T) {
	block := regexp.MustCompile("(?s)```sql\n(.*?)```").FindSubmatch(read(t, "../../docs/keys.md"))
	if block == nil {
		t.Fatal("docs/keys.md has no SQL")
	}
	server := postgres.Start(t)
	owner := server.Open("keys")
	ownerStore, err := sqlstore.New(owner, sqlstore.PostgreSQL)
	check(t, err)
	check(t, ownerStore.Migrate(t.Context()))
	for _, statement := range []string{"CREATE ROLE api LOGIN", string(block[1])} {
		_, err := owner.Exec(statement)
		check(t, err)
	}

	db, err := sql.Open("pgx", strings.Replace(postgres.DSN(server.Addr(), "keys"), "postgres@", "api@", 1))
	check(t, err)
	defer db.Close()
	store, err := sqlstore.New(db, sqlstore.PostgreSQL)
	check(t, err)
	quiet := keyring.WithAudit(func(context.Context, keyring.Event) {})
	ring, err := keyring.Open(t.Context(), store.Keyring("default"), keyring.InsecurePlaintext(), quiet)
	check(t, err)
	check(t, ring.Rotate(t.Context()))
	registry, err := accounts.New(store.Accounts(), accounts.WithAudit(func(context.Context, accounts.Event) {}))
	check(t, err)
	check(t, registry.SetPolicy(t.Context(), "acme", sealhttp.Disabled))
	for _, err := range registry.All(t.Context()) {
		check(t, err)
	}
	for _, statement := range []string{
		"UPDATE sealhttp_audit SET actor = 'nobody'", "DELETE FROM sealhttp_audit", "TRUNCATE sealhttp_audit",
		"DELETE FROM sealhttp_keyrings", "DROP TABLE sealhttp_accounts",
	} {
		if _, err := db.Exec(statement); err == nil {
			t.Errorf("%s: no error", statement)
		}
	}
	if store.Migrate(t.Context()) == nil {
		t.Error("Migrate: no error")
	}
	var n int
	check(t, owner.QueryRow("SELECT count(*) FROM sealhttp_audit WHERE actor = ''").Scan(&n))
	if n != 5 {
		t.Errorf("the audit trail has %d events, want 5", n)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestArguments has what cannot work.
func TestArguments(t *testing.T) {
	t.Chdir(t.TempDir())
	f := localFiles(t)
	if _, err := f.program(t, "-kek", f.kek, "retire"); err == nil || !strings.Contains(err.Error(), `"retire" is no command`) {
		t.Errorf("another command: %v", err)
	}
	if left, err := os.ReadDir("."); err != nil || len(left) != 0 {
		t.Errorf("another command has made something: %v, %v", left, err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "is no command"},
		{[]string{"status"}, "\"\": it starts with none of"},
		{[]string{"-kek", "s3://bucket", "status"}, "\"s3://bucket\": it starts"},
		{[]string{"-kek", "aws-kms://alias/x", "status"}, "region"},
		{[]string{"-kek", "hcvault://localhost:1/one", "status"}, "keyPath"},
		{[]string{"-kek", "hcvault://%zz", "status"}, "invalid URL escape"},
		{[]string{"-kek", f.kek, "-old", "x", "status"}, "\"x\": it starts"},
		{[]string{"-kek", f.kek, "-lead", "0s", "-name", "", "status"}, "WithName"},
		{[]string{"-kek", f.kek}, "is no command"},
		{[]string{"-kek", f.kek, "-x"}, "-x"},
		{[]string{"-kek", f.kek, "revoke", "first"}, "\"first\" is no key id"},
		{[]string{"-kek", f.kek, "revoke", "4294967296"}, "is no key id"},
		{[]string{"-kek", f.kek, "revoke", "7"}, keyring.ErrUnknownKey.Error()},
	} {
		if _, err := f.program(t, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
	if out := f.must(t, "-h"); !strings.Contains(out, "rewrap   encrypts") {
		t.Errorf("the help is\n%s", out)
	}
}

// TestReadme runs the commands of the README that need no KMS.
func TestReadme(t *testing.T) {
	readme := string(read(t, "README.md"))
	t.Chdir(t.TempDir())
	n := 0
	for _, m := range regexp.MustCompile(`(?m)^go run \. (-kek file:.*)$`).FindAllStringSubmatch(readme, -1) {
		out := (&fake{}).must(t, strings.Fields(m[1])...)
		primary(t, out)
		n++
	}
	if n != 3 {
		t.Errorf("the README has %d commands with a local file, want 3", n)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
