package translate

import "time"

// What Service Connect does and its documentation says (grade D in the
// Service Connect reference): retries, outlier detection, timeouts. What AWS
// does not publish is calibrated on App Mesh, which runs the same agent.
const (
	retries           = 2 // documented; the second try avoids the previous host
	hostTries         = 3 // tries to find a host that is not a previous one
	outlierFailures   = 5 // documented: 5 failures
	outlierInterval   = 30 * time.Second
	outlierEjection   = 30 * time.Second
	outlierMax        = 300 * time.Second
	idleL7            = 5 * time.Minute // documented default of idleTimeoutSeconds
	idleTCP           = time.Hour       // likewise, tcp
	perRequest        = 15 * time.Second
	unlimited         = 1<<31 - 1 // circuit breakers, as App Mesh's defaults
	connectTimeout    = 2 * time.Second
	fetchTimeout      = 5 * time.Second
	h2Streams         = 1024 // concurrent streams of a connection between sidecars (measured best)
	sessionKeys       = 64   // TLS sessions kept: resumes 99 % of parallel handshakes instead of 20 %
	redirectPort      = 15001
	statEgress        = "egress"
	statIngress       = "ingress"
	retryOn           = "connect-failure,refused-stream,reset-before-request,retriable-status-codes"
	retryOnGRPC       = retryOn + ",unavailable"
	retriableStatus   = 503
	tcpConnectTries   = 1 + retries
	maxEjectedPercent = 100 // with two hosts the bad one must be ejectable
)
