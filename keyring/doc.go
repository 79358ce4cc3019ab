// Package keyring keeps a server's private keys over time: it generates them,
// stores them encrypted, replaces them every year over any number of replicas, and
// deletes them when nobody uses them any more.
//
// A [Keyring] is a sealhttp.ServerKeys, so it is what sealhttp.New takes. On one
// machine:
//
//	kek, err := keyring.LocalKeyFile("/var/lib/api/ring.kek")
//	ring, err := keyring.OpenFile(ctx, "/var/lib/api/ring", kek)
//	go ring.Run(ctx)
//	m, err := sealhttp.New(ring)
//
// Replicas share a [Store] in a database, with a key-encryption key of a KMS: see
// [Open] and package sqlstore. [New] makes a ring in memory.
//
// # The life of a key
//
//	           generated      promoted                 replaced         retired
//	               |-- Lead ----->|------- Every -------->|--- Overlap --->|
//	key 1          |   pending    |        primary        |    previous    | retired
//	key 2                             generated |- Lead ->|    primary ...
//	opens          yes            yes                     yes              no
//	published      no             first                   yes              no
//
// A pending key is held by every replica before the first caller hears of it; a
// previous one opens until the last caller has refreshed. So no call fails. A ring
// always has exactly one primary, whatever happens: a step replaces it, and none
// deletes it.
//
// # Replicas
//
// Each replica runs [Keyring.Run], which loads what the others have changed, and
// takes the steps of the [Schedule] that it finds due. A Store swaps a state only
// for who knows the one before, so one replica succeeds, and the others load its
// result. There is no leader, and no replica need know of another.
//
// A replica holds a new key two reload intervals after it was generated, unless it
// alone could not reach the store in all that time: choose a Lead that is longer than
// what you want to live through. When the store was out of reach for all of them, the
// next step waits for two reload intervals more. A replica that reaches the store, but
// not the KMS, holds the promotion up until it has the key ([EventPostponed]).
//
// # At rest
//
// The private halves are encrypted with the key-encryption key, one by one. The
// associated data binds each to its ring's name, its id and its suite, so one that is
// put elsewhere does not open. States, times and everything else are authenticated
// with a key that is stored the same way: what was edited is refused
// ([ErrCorrupt]) by replicas that start and by those that run. What is stored can be
// read, in JSON; a program that does not know its version refuses it ([ErrVersion]).
//
// The key-encryption key is used once for each key, and once more for the ring, when
// a program starts, and then for new keys only: a KMS that cannot be reached stops
// no running replica.
//
// # Clocks
//
// Small differences between the replicas' clocks shift steps by as much. To a replica
// that runs, a clock that jumps, by years even, does nothing: it reads the wall clock
// when it starts, for two reload intervals in which that may still be set, and goes
// on by the monotonic clock. (That stands still while a machine sleeps. Steps then
// come later.) If the wall clock is wrong when a replica starts,
//
//   - by being behind, the replica does nothing on schedule until it is put right, and
//     says so ([EventClockBehind]);
//   - by being ahead, it may take the next steps early: a rotation, which is safe at
//     any time, and the retirement of previous keys, whose callers are answered
//     unknown_key and have to refresh. Replicas that have seen the key replaced
//     do not take part in that. Afterwards replicas whose clocks are right do nothing
//     on schedule until the time that the wrong one has written, and say so;
//     [Keyring.Rotate] on one of them sets the ring's times right.
//
// A primary never retires, so there is always a key that opens.
//
// # Backups
//
// Every state has a serial, which grows even where a store's revisions begin again.
// A replica never goes back to an older state than it has loaded. If the store holds
// one, or nothing, because it was restored from a backup or lost, the replica writes
// its own back, and tells so ([EventReinstated]). That goes for a new ring too, which
// a replica that was started too soon has made in the empty store. If the replica that
// is the first to write does not know of the last change, one that does puts its own
// state in that one's place. So as long as one replica runs, what was retired stays
// retired, what was revoked stays revoked, and no key is lost.
//
// If none runs, the backup is the truth. What was retired since is what it was in
// the backup, and retires again when it is due: at once, if its time is over. What
// was revoked since is trusted again, as primary perhaps: revoke it again, before
// anything else. What was generated since is lost, and callers that use it are
// answered unknown_key. Then call [Keyring.Rotate], so that the serial passes the one
// that callers have seen.
//
// # Keys without a prefix
//
// Nothing in a message says which of the keys without a prefix it is for, so each
// costs a trial, and seal allows two. A ring of such keys holds a primary and one
// other: the pending key comes when the previous one has retired. The schedule
// waits for that; [Keyring.Rotate] returns [ErrFull] until then. When
// [Keyring.Revoke] is called for the previous key, or the primary, there is room at
// once.
package keyring
