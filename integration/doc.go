// Package integration tests the life of keys with real parts: replicas that are
// processes and get killed, a PostgreSQL that stops, and callers that have nothing
// but Tink. There is nothing in it to import.
//
//	go test ./...               about two minutes
//	go test ./... -short        half of that
//	go test ./... -calls 100000
//
// A replica is the test's own binary, started again; see runReplica. PostgreSQL,
// Redis and nginx must be installed (Debian: apt-get install postgresql redis-server nginx).
package integration
