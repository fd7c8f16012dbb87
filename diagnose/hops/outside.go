package hops

import (
	"fmt"
	"strings"

	"patchbay/diagnose"
	"patchbay/internal/count"
)

// verified is what a statistic of a cluster's TLS says of the certificate that
// the other side showed.
var verified = []struct{ stat, code, cause string }{
	{"ssl.fail_verify_error", "PB1208", "its certificate does not chain to a CA that is trusted for it"},
	{"ssl.fail_verify_san", "PB1209", "its certificate has none of the names that are accepted"},
	{"ssl.fail_verify_no_cert", "PB1208", "it showed no certificate"},
}

// outsideTLS is the handshake with a target outside the mesh, as the client's
// Envoy has counted it: nobody else makes one.
func (w *walker) outsideTLS() bool {
	const hop = "tls"
	switch {
	case w.to.one.TLS == nil:
		return w.ok(hop, "plain")
	case w.task == nil || w.task.Stats == nil:
		return w.unseen(hop, "the sidecar's counters were not seen: --live makes the call")
	}
	var failed []string
	for _, v := range verified {
		if n := w.task.Stats["cluster."+w.Service+"."+v.stat]; n > 0 {
			failed = append(failed, fmt.Sprintf("%s failed, %s (%s)", count.Of(int(n), "handshake"), v.cause, v.stat))
		}
	}
	stood := w.task.Stats["cluster."+w.Service+".ssl.handshake"]
	so := fmt.Sprintf("since its Envoy started, %s stood", count.Of(int(stood), "handshake"))
	switch {
	case len(failed) > 0:
		return w.unseen(hop, strings.Join(append([]string{so}, failed...), "; ")+": --live makes the call")
	case stood == 0:
		return w.unseen(hop, "no connection yet: --live makes the call")
	}
	return w.ok(hop, "%s, none failed for its certificate", so)
}

// distrusted puts a call that ended because of the certificate of a target
// outside the mesh where it ended: at the hop tls.
func distrusted(w *Walk, counts map[string]uint64) {
	for _, v := range verified {
		stat := "cluster." + w.Service + "." + v.stat
		if counts[stat] == 0 || len(w.External) == 0 {
			continue
		}
		x := diagnose.Complete(diagnose.Finding{Code: v.code, Subject: w.Service, Cause: v.cause,
			Evidence: []string{fmt.Sprintf("%s counted +%d %s", w.Client, counts[stat], stat)}, Fix: []string{diagnose.OutsideTLSFix}})
		w.Finding = &x
		for i, h := range w.Hops {
			if h.Name == "tls" {
				w.Hops = append(w.Hops[:i], Hop{"tls", Fails, strings.Join(w.External, ", ") + ": " + v.cause})
				break
			}
		}
		return
	}
}
