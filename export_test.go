package sealhttp

// ReadAccept is readAccept, for the fuzz test that compares it with another reading
// of the same grammar.
func ReadAccept(lines []string) (asked, accepted bool) {
	wish := readAccept(lines)
	return wish == replyAsked, wish == replyAccepted
}

// WithoutSealed is withoutSealed, for the same test.
var WithoutSealed = withoutSealed
