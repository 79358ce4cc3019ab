package redisguard

import "time"

// SetSlice sets how long ids are counted together.
func (g *Guard) SetSlice(d time.Duration) { g.slice = d }
