package rehearse

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"sync"
)

// Names looks up the host names under which the registry is called: that of
// its endpoint and, as the AWS SDK calls it to discover instances, the one with
// "data-" in front. An endpoint of one's own need not have the latter. The value
// is why a name can't be found; empty: it can.
func Names(ctx context.Context, endpoint, region string) map[string]string {
	hosts := []string{"servicediscovery." + region + ".amazonaws.com", "data-servicediscovery." + region + ".amazonaws.com"}
	if endpoint != "" {
		u, err := url.Parse(endpoint)
		if err != nil {
			return map[string]string{endpoint: err.Error()}
		}
		hosts = []string{u.Hostname()}
	}
	out := map[string]string{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, h := range hosts {
		if _, err := netip.ParseAddr(h); err == nil {
			continue // an address needs no look-up
		}
		wait.Go(func() {
			ctx, stop := context.WithTimeout(ctx, limit)
			defer stop()
			_, err := net.DefaultResolver.LookupNetIP(ctx, "ip", h)
			mu.Lock()
			defer mu.Unlock()
			if out[h] = ""; err != nil {
				out[h] = err.Error()
			}
		})
	}
	wait.Wait()
	return out
}
