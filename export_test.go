package sealhttp

import "time"

// ReadAccept is readAccept, for the fuzz test that compares it with another reading
// of the same grammar.
func ReadAccept(lines []string) (asked, accepted bool) {
	wish := readAccept(lines)
	return wish == replyAsked, wish == replyAccepted
}

// WithoutSealed is withoutSealed, for the same test.
var WithoutSealed = withoutSealed

// SetWall replaces a Transport's wall clock, for tests of what a machine that was
// suspended does.
func SetWall(t *Transport, wall func() time.Time) { t.wall = wall }
