package registry

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// Local lets only those calls through to h whose host is an IP address, this
// machine, or a name without a dot, as hosts files have. It is for a registry on
// loopback without keys: a page in a browser here whose own name was rebound to
// 127.0.0.1 names itself.
func Local(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r.Host) {
			http.Error(w, "host "+strconv.Quote(r.Host)+"; allowed on loopback: an IP address, localhost, a name without a dot, or one that ends in .localhost, since a web page could call this registry by any other", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// local reports whether a Host header is none that somebody elsewhere could own. AWS's SDK puts data-
// before the host of some calls.
func local(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	for _, h := range []string{host, strings.TrimPrefix(host, "data-")} {
		if _, err := netip.ParseAddr(h); err == nil || h != "" && !strings.Contains(h, ".") || strings.HasSuffix(h, ".localhost") {
			return true
		}
	}
	return false
}
