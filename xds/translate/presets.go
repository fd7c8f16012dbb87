package translate

import (
	"time"

	"patchbay/xds/bootstrap"
)

// What no policy changes: what Service Connect does where it says so, and what
// is safe where it does not. The rest is in mesh/policy's presets. Evidence: D =
// AWS's documentation (Service Connect concepts, ServiceConnectConfiguration's
// timeout), M = measured on Envoy 1.40.0, I = inferred, N = our choice because
// nothing is published.
const (
	// N: the ingress waits longer than the caller, so that it is always the
	// caller's sidecar, which knows the service's settings, that ends a
	// connection.
	ingressGrace = time.Minute

	connectTimeout = 2 * time.Second  // N: a new connection within a region; then another host is tried
	fetchTimeout   = 5 * time.Second  // N: bounds the damage of an answer that never comes
	pingInterval   = 30 * time.Second // N: finds peers that vanished without a word
	pingTimeout    = 5 * time.Second  // N
	h2Streams      = 1024             // M: concurrent streams of a connection between sidecars
	sessionKeys    = 64               // M: resumes 99 % of parallel handshakes instead of 20 %; dropped when trust changes (tested)
	redirectPort   = bootstrap.RedirectPort
	statEgress     = "egress" // one for all listeners: half the memory of a listener (M)
	statIngress    = "ingress"
	pingJitter     = 15 // percent
)
