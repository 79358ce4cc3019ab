package sqlstore

import (
	"time"

	"github.com/sealhttp/sealhttp"
)

// SetReplaySlice sets how long a guard counts ids together.
func SetReplaySlice(g sealhttp.ReplayGuard, d time.Duration) {
	switch g := g.(type) {
	case *replayGuard:
		g.slice = d
	case *sqliteReplayGuard:
		g.slice = d
	}
}
