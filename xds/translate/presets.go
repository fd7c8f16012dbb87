package translate

import (
	"time"

	"patchbay/xds/bootstrap"
)

// The preset `ecs`: what Service Connect does where it says so, and what is
// safe where it does not. Evidence: D = AWS's documentation (Service Connect
// concepts, ServiceConnectConfiguration's timeout), M = measured on Envoy
// 1.40.0, I = inferred, N = our choice because nothing is published.
const (
	retries   = 2 // D: "2 retries", the second try avoids the previous host
	hostTries = 5 // N: picks of a host until one is found that has not failed this request
	// D and I: a failed connection, or 503. The request has not reached an
	// application, or says itself that it was not served.
	retryOn         = "connect-failure,refused-stream,reset-before-request,retriable-status-codes"
	retryOnGRPC     = retryOn + ",unavailable" // I: gRPC's word for 503
	retriableStatus = 503
	tcpConnectTries = 1 + retries // I: a connection attempt is what tcp can retry

	outlierFailures = 5                 // D: 5 failed connections
	outlierInterval = 30 * time.Second  // D: within 30 s
	outlierEjection = 30 * time.Second  // D: avoided for 30 s
	outlierMax      = 300 * time.Second // D: up to 300 s
	// N: of two hosts the dead one must be ejectable. When more than half are
	// out, Envoy's panic threshold (50 %) uses all of them again.
	maxEjectedPercent = 100

	perRequest = 15 * time.Second // D: default of perRequestTimeoutSeconds
	idleL7     = 5 * time.Minute  // D: default of idleTimeoutSeconds
	idleTCP    = time.Hour        // D: likewise, tcp
	// N: the ingress waits longer than the caller, so that it is always the
	// caller's sidecar, which knows the service's settings, that ends a
	// connection.
	ingressGrace = time.Minute

	unlimited      = 1<<31 - 1        // I: circuit breakers as App Mesh had them; 1,024 is in reach of one busy caller (M)
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
