// Kms looks after a key ring whose private keys are encrypted with a key that a KMS
// holds: AWS KMS, Google Cloud KMS or HashiCorp Vault; or with one in a local file:
//
//	go run . -kek file:ring.kek status
//
// A service opens its ring in the same way: see open.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"google.golang.org/api/option"

	"github.com/sealhttp/sealhttp/keyring"
	"github.com/sealhttp/sealhttp/sqlstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const usage = `usage: kms -kek URI [-old URI] [-store FILE|postgres://...] [-name NAME] [-lead TIME] COMMAND

status   shows the ring's keys; makes a ring if there is none
rotate   makes the next key; the services that run put it into use
revoke   deletes the key of the id that follows, at once
run      does what a service does, until it is interrupted
rewrap   encrypts all private keys anew, with the key of -kek

`

// run is the program. google are options for Google Cloud KMS.
func run(ctx context.Context, args []string, out io.Writer, google ...option.ClientOption) error {
	flags := flag.NewFlagSet("kms", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() {
		fmt.Fprint(out, usage)
		flags.PrintDefaults()
	}
	kekURI := flags.String("kek", "", "the key-encryption key: file:PATH, aws-kms://ARN, gcp-kms://NAME or hcvault://HOST/MOUNT/keys/NAME")
	oldURI := flags.String("old", "", "another one that may have been used before")
	where := flags.String("store", "ring", "where the ring is: a file, or a PostgreSQL database")
	name := flags.String("name", "default", "the ring's name")
	lead := flags.Duration("lead", 2*time.Minute, "how long a new key waits until every replica has it")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	command := flags.Arg(0)
	if !slices.Contains([]string{"status", "rotate", "revoke", "run", "rewrap"}, command) {
		flags.Usage()
		return fmt.Errorf("%q is no command", command)
	}

	kek, err := openKEK(ctx, *kekURI, google...)
	if err != nil {
		return err
	}
	current := kek
	if *oldURI != "" {
		old, err := openKEK(ctx, *oldURI, google...)
		if err != nil {
			return err
		}
		kek = keyring.KEKs(kek, old)
	}
	events := func(_ context.Context, e keyring.Event) {
		fmt.Fprintf(out, "%s: key %d, revision %d\n", e.Type, e.KeyID, e.Revision)
		if e.Err != nil {
			fmt.Fprintln(out, e.Err)
		}
	}
	ring, err := open(ctx, *where, *name, kek,
		keyring.WithSchedule(keyring.Schedule{Lead: *lead}),
		keyring.WithAudit(events))
	if err != nil {
		return err
	}

	ctx = keyring.ContextWithActor(ctx, operator())
	switch command {
	case "rotate":
		err = ring.Rotate(ctx)
	case "revoke":
		err = revoke(ctx, ring, flags.Arg(1))
	case "run":
		err = ring.Run(ctx)
	case "rewrap":
		err = ring.Rewrap(ctx, current)
	}
	if err != nil {
		return err
	}
	show(out, ring.Status())
	return nil
}

// open opens a ring, in PostgreSQL for several replicas, or in a file.
func open(ctx context.Context, where, name string, kek keyring.AEAD, opts ...keyring.Option) (*keyring.Keyring, error) {
	opts = append(opts, keyring.WithName(name))
	if !strings.HasPrefix(where, "postgres://") {
		return keyring.OpenFile(ctx, where, kek, opts...)
	}
	db, err := sql.Open("pgx", where)
	if err != nil {
		return nil, err
	}
	store, err := sqlstore.New(db, sqlstore.PostgreSQL)
	if err != nil {
		return nil, err
	}
	if err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	return keyring.Open(ctx, store.Keyring(name), kek, opts...)
}

func revoke(ctx context.Context, ring *keyring.Keyring, id string) error {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return fmt.Errorf("%q is no key id: see status", id)
	}
	return ring.Revoke(ctx, uint32(n))
}

// operator is who is named in the audit trail.
func operator() string {
	u, err := user.Current()
	if err != nil {
		return "kms"
	}
	return "kms: " + u.Username
}

func show(out io.Writer, s keyring.Status) {
	fmt.Fprintf(out, "ring %s, revision %d\n", s.Ring, s.Revision)
	for _, k := range s.Keys {
		fmt.Fprintf(out, "%-8s  %10d  %s  %s\n", k.State, k.ID, k.Suite, k.Fingerprint)
	}
}
