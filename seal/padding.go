package seal

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

// Padding says how the length of a body is hidden. It sees how many bytes were
// written since the last flush, when the next flush, or the end, comes: padding hides
// how long each stretch was, not how many there were or when.
//
// Zeros follow the data, in records that are cut where data of the padded length
// would be, so that stretches which are padded alike look alike. A stretch gets at
// most 48 KiB of them; what a Padding asks for beyond that is left out. One thing still
// shows: since each record but a body's last has a byte of data, a stretch of 0 to 3
// bytes may have to go into one record where others of its padded length take more.
type Padding interface {
	// PaddedLen returns the length that n bytes are to have. What is less than n
	// counts as n.
	PaddedLen(n int64) int64
}

// PaddingFunc makes a function a [Padding].
type PaddingFunc func(n int64) int64

// PaddedLen calls the function.
func (f PaddingFunc) PaddedLen(n int64) int64 { return f(n) }

// maxPadding is how many zeros a stretch can have.
const maxPadding = 3 * MaxRecordData

// PadBuckets pads to the smallest of the given lengths, in bytes, that is large
// enough, and past the largest to a multiple of it: PadBuckets(1<<10, 8<<10) makes every
// body of up to 1 KiB look alike, then those of up to 8 KiB, 16 KiB, and so on. It
// returns an error for a length that is not above 0, and for two neighbours, or a
// largest one, that are more than 49,152 bytes apart.
func PadBuckets(lengths ...int) (Padding, error) {
	if len(lengths) == 0 {
		return nil, errors.New("seal: PadBuckets: no length is given")
	}
	sorted := slices.Clone(lengths)
	slices.Sort(sorted)
	last := 0
	for _, n := range sorted {
		if n < 1 || n-last > maxPadding {
			return nil, fmt.Errorf("seal: PadBuckets: %d bytes after %d: lengths are above 0 and at most %d apart", n, last, maxPadding)
		}
		last = n
	}
	largest := int64(last)
	if largest > maxPadding {
		return nil, fmt.Errorf("seal: PadBuckets: the largest length, %d bytes, is above %d", largest, maxPadding)
	}
	return PaddingFunc(func(n int64) int64 {
		if n > largest {
			return (n + largest - 1) / largest * largest
		}
		i, _ := slices.BinarySearch(sorted, int(n))
		return int64(sorted[i])
	}), nil
}

// Padme pads as the PURB paper's Padmé does (Nikitin et al., "Reducing Metadata Leakage
// from Encrypted Files and Communication with PURBs", 2019, section 4): a length
// tells no more than its order of magnitude and a few bits, and grows by at most 12 %.
// From 2 MiB on it pads to multiples of 32 KiB, since no more zeros than 48 KiB go into
// one stretch.
var Padme Padding = PaddingFunc(padme)

// maxPadmeBits keeps Padme's steps below maxPadding.
const maxPadmeBits = 15

func padme(n int64) int64 {
	if n < 2 {
		return n
	}
	e := bits.Len64(uint64(n)) - 1
	s := bits.Len64(uint64(e))
	mask := int64(1)<<min(e-s, maxPadmeBits) - 1
	return (n + mask) &^ mask
}
