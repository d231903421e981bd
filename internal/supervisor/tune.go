package supervisor

import (
	"github.com/auser/mvm/internal/fcconfig"
	"github.com/auser/mvm/internal/tenant"
)

// tune puts what the spec says of the machine into the run's values.
func tune(rt *fcconfig.Runtime, m tenant.Machine) {
	rt.HugePages, rt.CPUTemplate = m.HugePages, m.CPUTemplate
	if mib, there := m.BalloonMiB(); there {
		rt.Balloon = &fcconfig.Balloon{AmountMiB: mib, DeflateOnOOM: true, FreePageReporting: true}
	}
	rt.DiskLimit = perSecond(uint64(m.DiskMiBPerSec)<<20, m.DiskOpsPerSec)
	rt.RxLimit = perSecond(uint64(m.NetRxMbit)*mbit, m.NetRxPktsPerSec)
	rt.TxLimit = perSecond(uint64(m.NetTxMbit)*mbit, m.NetTxPktsPerSec)
}

const mbit = 1_000_000 / 8 // bytes

// perSecond is a limiter whose buckets fill within a second; nil where nothing
// is limited.
func perSecond(bytes uint64, ops int) *fcconfig.RateLimiter {
	var l fcconfig.RateLimiter
	if bytes > 0 {
		l.Bandwidth = &fcconfig.TokenBucket{Size: bytes, RefillTime: 1000}
	}
	if ops > 0 {
		l.Ops = &fcconfig.TokenBucket{Size: uint64(ops), RefillTime: 1000}
	}
	if l == (fcconfig.RateLimiter{}) {
		return nil
	}
	return &l
}
