package wire

import (
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// HandshakeTime is how long a stranger may hold a connection without saying who
// it is: long enough for thousands of Envoys that come at once.
const HandshakeTime = 20 * time.Second

// Options are what a gRPC server of ADS needs. After maxAge (0: never) gRPC ends
// a connection, ±10 %, so that Envoys spread over new replicas.
func Options(maxAge time.Duration) []grpc.ServerOption {
	params := keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}
	if maxAge > 0 {
		params.MaxConnectionAge, params.MaxConnectionAgeGrace = maxAge, 5*time.Second
	}
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(NewCodec()),
		grpc.MaxRecvMsgSize(2 * MaxRequest), // beyond MaxRequest the engine itself says why not
		grpc.MaxHeaderListSize(64 << 10),
		// By default each connection keeps 32 kB to read into for ever. Requests are
		// rare and small, but for the first.
		grpc.ReadBufferSize(4 << 10),
		// gRPC's own windows grow by what a ping says of the line: one ping, and
		// one answer, for each ACK. These hold a whole first request, and stay.
		grpc.StaticStreamWindowSize(256 << 10),
		grpc.StaticConnWindowSize(512 << 10),
		grpc.MaxConcurrentStreams(100),
		grpc.ConnectionTimeout(HandshakeTime),
		grpc.KeepaliveParams(params),
		// AWS's agent pings every 10 s, and clocks are not exact.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}
}
