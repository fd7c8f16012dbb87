package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"patchbay/identity/refused"
	"patchbay/identity/strangers"
)

// Credentials are TLS 1.3. With enrolment a client may come without a
// certificate (the interceptors then let it call Enrol alone); a certificate
// that is shown must be good in either case.
func (g *Guard) Credentials(enrolment bool) credentials.TransportCredentials {
	auth := tls.RequireAndVerifyClientCert
	if enrolment {
		auth = tls.VerifyClientCertIfGiven
	}
	return handshakes{credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: auth, ClientCAs: g.signer.Pool(),
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return g.certificate(time.Now()) },
	}), g.refusals, strangers.New(strangers.Crowd())}
}

var errCrowded = errors.New("it had not said who it is when too many others came after it")

// handshakes makes a [line] of each connection, and logs those that fail; gRPC itself tells nobody.
type handshakes struct {
	credentials.TransportCredentials
	refusals  *refused.Log
	strangers *strangers.Room
}

func (h handshakes) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	leave, closed := h.strangers.Enter(c)
	if closed != nil {
		h.refusals.Refuse(context.Background(), hostOf(closed.RemoteAddr()), errCrowded)
	}
	conn, info, err := h.TransportCredentials.ServerHandshake(c)
	// A health check connects and says nothing. A TLS alert is an OpError too.
	broken, ok := errors.AsType[*net.OpError](err)
	silent := errors.Is(err, io.EOF) || ok && broken.Op != "remote error"
	if err != nil && !silent {
		h.refusals.Refuse(context.Background(), hostOf(c.RemoteAddr()), err)
	}
	if err != nil {
		leave()
		return nil, nil, err
	}
	tlsInfo, ok := info.(credentials.TLSInfo)
	if len(tlsInfo.State.PeerCertificates) > 0 {
		leave()
	} else {
		conn = strangers.Until(conn, leave)
	}
	if !ok {
		return nil, nil, errors.Join(errors.New("the handshake was not TLS"), conn.Close())
	}
	return conn, line{tlsInfo, sync.OnceFunc(func() { time.AfterFunc(linger, func() { conn.Close() }) })}, nil
}

// linger is for how long a connection stays whose certificate is refused: the
// reason must arrive.
const linger = time.Second

// line is a connection after its handshake. A client whose certificate is not
// good any more has to be cut off: Envoy and gRPC would go on to open streams
// on the same connection, with the same certificate, though they have a newer
// one.
type line struct {
	credentials.TLSInfo
	hangUp func()
}

func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{h.TransportCredentials.Clone(), h.refusals, h.strangers}
}

func (g *Guard) certificate(now time.Time) (*tls.Certificate, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cert == nil || now.After(g.cert.Leaf.NotAfter.Add(-serverLife/2)) {
		cert, err := g.signer.server()
		if err != nil {
			return nil, fmt.Errorf("control plane's certificate: %w", err)
		}
		g.cert = cert
	}
	return g.cert, nil
}

// Limits of the agents' port. It answers strangers, who may enrol.
const (
	maxMessage    = 1 << 20 // a Hello of some hundred ports
	maxHeaders    = 16 << 10
	maxStreams    = 16 // of one connection; an agent has one
	handshakeTime = 10 * time.Second
	quietTime     = 30 * time.Second // then an agent is asked whether it is there
	idleTime      = time.Minute      // a connection without a call is closed
)

// Options are the interceptors and limits of the agents' port, for
// grpc.NewServer.
func (g *Guard) Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(g.unary), grpc.ChainStreamInterceptor(g.StreamInterceptor),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxHeaderListSize(maxHeaders), grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: quietTime, Timeout: quietTime / 3, MaxConnectionIdle: idleTime}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: quietTime / 6, PermitWithoutStream: true}),
	}
}
