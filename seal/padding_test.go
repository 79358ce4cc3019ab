package seal_test

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sealhttp/sealhttp/seal"
)

func buckets(t testing.TB, lengths ...int) seal.Padding {
	t.Helper()
	p, err := seal.PadBuckets(lengths...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPadBuckets(t *testing.T) {
	cases := []struct {
		lengths []int
		want    map[int64]int64
	}{
		{[]int{1 << 10, 8 << 10}, map[int64]int64{0: 1024, 1: 1024, 1024: 1024, 1025: 8192, 8192: 8192, 8193: 16384, 16384: 16384, 16385: 24576, 1 << 30: 1 << 30, 1<<30 + 1: 1<<30 + 8192}},
		{[]int{8 << 10, 1 << 10, 1 << 10}, map[int64]int64{0: 1024, 1024: 1024, 1025: 8192}}, // any order, and twice
		{[]int{1}, map[int64]int64{0: 1, 1: 1, 2: 2, 12345: 12345}},
		{[]int{100}, map[int64]int64{0: 100, 100: 100, 101: 200, 200: 200, 201: 300}},
		{[]int{49152}, map[int64]int64{0: 49152, 49152: 49152, 49153: 98304}},
		{[]int{10, 49162 - 10}, map[int64]int64{11: 49152}},
	}
	for _, c := range cases {
		before := slices.Clone(c.lengths)
		p := buckets(t, c.lengths...)
		if !slices.Equal(before, c.lengths) {
			t.Errorf("PadBuckets changed its arguments to %v", c.lengths)
		}
		for n, want := range c.want {
			if got := p.PaddedLen(n); got != want {
				t.Errorf("buckets %v: %d becomes %d, want %d", c.lengths, n, got, want)
			}
		}
	}
	for _, lengths := range [][]int{nil, {0}, {-1}, {100, 0}, {49153}, {1, 49154}, {40000, 80000}, {math.MaxInt}, {math.MinInt}, {math.MinInt, math.MaxInt}} {
		if p, err := seal.PadBuckets(lengths...); err == nil || p != nil {
			t.Errorf("buckets %v: %v, %v", lengths, p, err)
		}
	}
}

// padme is the algorithm of the paper, section 4, with its logarithms.
func padme(l float64) float64 {
	e := math.Floor(math.Log2(l))
	s := math.Floor(math.Log2(e)) + 1
	lastBits := math.Pow(2, e-s)
	return math.Ceil(l/lastBits) * lastBits
}

func TestPadme(t *testing.T) {
	checked, worst := 0, 0.0
	lengths := func(yield func(int64)) {
		for n := int64(2); n < 1<<17; n++ {
			yield(n)
		}
		random := rand.New(rand.NewPCG(1, 2))
		for range 100000 {
			yield(1 + random.Int64N(1<<21))
		}
		for e := range 21 {
			yield(1<<e - 1)
			yield(1 << e)
			yield(1<<e + 1)
		}
	}
	lengths(func(n int64) {
		if n < 2 {
			return
		}
		got := seal.Padme.PaddedLen(n)
		if want := int64(padme(float64(n))); got != want {
			t.Fatalf("%d becomes %d, want %d", n, got, want)
		}
		if again := seal.Padme.PaddedLen(got); again != got {
			t.Fatalf("%d becomes %d, and that %d", n, got, again)
		}
		overhead := float64(got-n) / float64(n)
		worst = max(worst, overhead)
		if bound := 1 / math.Floor(math.Log2(float64(n))); overhead >= bound {
			t.Fatalf("%d becomes %d: the overhead is not below 1/log2", n, got)
		}
		checked++
	})
	t.Logf("%d lengths, at most %.2f %% more", checked, 100*worst)
	if worst > 0.12 {
		t.Error("more than 12 %")
	}
	for n, want := range map[int64]int64{0: 0, 1: 1, 9: 10, 1 << 20: 1 << 20, 1<<21 + 1: 1<<21 + 32<<10, 1<<40 + 1: 1<<40 + 32<<10, 1<<40 + 32<<10: 1<<40 + 32<<10} {
		if got := seal.Padme.PaddedLen(n); got != want {
			t.Errorf("%d becomes %d, want %d", n, got, want)
		}
	}
	// How many lengths can be told apart.
	distinct := map[int64]bool{}
	for n := range int64(1 << 20) {
		distinct[seal.Padme.PaddedLen(n)] = true
	}
	if t.Logf("of 2^20 lengths, %d can be told apart", len(distinct)); len(distinct) > 400 {
		t.Error("too many")
	}
}

// paddings are some of each kind, with what shows of a length.
func paddings(t testing.TB) map[string]seal.Padding {
	return map[string]seal.Padding{
		"1 KiB, 8 KiB":     buckets(t, 1<<10, 8<<10),
		"10,000 bytes":     buckets(t, 10000),
		"30,000 bytes":     buckets(t, 30000),
		"48 KiB":           buckets(t, 48<<10),
		"100, 48 KiB":      buckets(t, 100, 48<<10),
		"Padmé":            seal.Padme,
		"everything alike": seal.PaddingFunc(func(n int64) int64 { return (n/65536 + 1) * 49152 }),
	}
}

// padded seals data in one stretch, and returns the lengths of its records.
func padded(t testing.TB, x *exchange, pad seal.Padding, data []byte, chunk int, flush bool) []int {
	t.Helper()
	_, records := x.respond(t, nil, nil)
	var sealed bytes.Buffer
	w := records.NewWriter(&sealed, pad)
	for part := range slices.Chunk(data, chunk) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	end := w.Close
	if flush {
		end = w.Flush
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	all := sizes(t, sealed.Bytes())
	w.Abort()
	return all
}

// What an observer sees of a stretch is the lengths of its records. They must tell the
// padded length and nothing more: not where the data ends, nor how many records it
// filled.
func TestPaddingHidesTheLength(t *testing.T) {
	x := newExchange(t, newKey(t, seal.X25519AES256GCM), nil)
	data := pattern(200000)
	random := rand.New(rand.NewPCG(3, 4))
	stretches := 0
	for name, pad := range paddings(t) {
		for _, flush := range []bool{false, true} {
			seen := map[int64][]int{}
			try := func(n int) {
				got := padded(t, x, pad, data[:n], 1+random.IntN(50000), flush)
				target := pad.PaddedLen(int64(n))
				sum := int64(0)
				for _, size := range got {
					sum += int64(size - 17)
				}
				if target < int64(n) || target > int64(n)+49152 {
					target = min(max(target, int64(n)), int64(n)+49152)
				}
				if sum != target {
					t.Fatalf("%s: %d bytes have %d with padding, want %d", name, n, sum, target)
				}
				if want, ok := seen[target]; ok && !slices.Equal(got, want) {
					t.Fatalf("%s: %d bytes are in records of %v, others of the same padded length in %v", name, n, got, want)
				}
				seen[target] = got
				stretches++
			}
			for k := range 9 {
				for d := -5; d <= 5; d++ {
					if n := k*16384 + d; n > 3 {
						try(n)
					}
				}
			}
			for range 250 {
				try(4 + random.IntN(150000))
			}
		}
	}
	t.Logf("%d stretches", stretches)
}

// Each flush begins a stretch of its own, and one that sends nothing none.
func TestPaddingOfFlushes(t *testing.T) {
	x := newExchange(t, newKey(t, seal.X25519AES256GCM), nil)
	var asked []int64
	pad := seal.PaddingFunc(func(n int64) int64 {
		asked = append(asked, n)
		return (n + 99) / 100 * 100
	})
	var sealed bytes.Buffer
	w := x.caller.Records().NewWriter(&sealed, pad)
	data := pattern(40000)
	for _, n := range []int{1, 100, 0, 101, 16384, 20000} {
		_, _ = w.Write(data[:n])
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if want := []int64{1, 100, 101, 16384, 20000, 0}; !slices.Equal(asked, want) {
		t.Errorf("asked for %v, want %v", asked, want)
	}
	var got []int
	for _, n := range sizes(t, sealed.Bytes()) {
		got = append(got, n-17)
	}
	if want := []int{100, 100, 200, 16384, 16400 - 16384, 16384, 20000 - 16384, 0}; !slices.Equal(got, want) {
		t.Errorf("records of %v bytes and padding, want %v", got, want)
	}
	r := x.server.Records().NewReader(&sealed)
	all, err := io.ReadAll(r)
	if err != nil || len(all) != 1+100+101+16384+20000 {
		t.Errorf("%d bytes, %v", len(all), err)
	}
}

// What a Padding says is bounded on both sides, and no data is lost with it.
func TestPaddingBounds(t *testing.T) {
	x := newExchange(t, newKey(t, seal.X25519ChaCha20Poly1305), nil)
	for _, ask := range []int64{math.MinInt64, -1, 0, 3, 49151, 49152, 65535, 65536, 1 << 40, math.MaxInt64} {
		pad := seal.PaddingFunc(func(int64) int64 { return ask })
		for _, n := range []int{0, 1, 2, 3, 4, 5, 16383, 16384, 16385, 16388, 16389, 40000, 65536} {
			t.Run(fmt.Sprintf("%d bytes to %d", n, ask), func(t *testing.T) {
				x := newExchange(t, x.key, nil)
				var sealed bytes.Buffer
				w := x.caller.Records().NewWriter(&sealed, pad)
				data := pattern(n)
				if _, err := w.Write(data); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				r := x.server.Records().NewReader(&sealed)
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				if want := min(max(ask, int64(n)), int64(n)+49152); r.Padded() != want {
					t.Errorf("%d bytes with padding, want %d", r.Padded(), want)
				}
			})
		}
	}
}
