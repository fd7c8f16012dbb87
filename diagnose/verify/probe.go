// Package verify proves that a port is encrypted as Service Connect promises.
//
// It owns the handshakes that an auditor would make ([Probe]) and what they
// must show ([Judge]). The two are apart, so that a probe can be made where
// the port can be reached, and judged where the mesh is known. It must not
// know the mesh, and never asks for a key. Start reading at [Probe].
package verify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// probeTime bounds one connection of a probe.
const probeTime = 5 * time.Second

// listenTime is how long a port may take to answer what is no TLS.
const listenTime = 2 * time.Second

// Observation is what a port did. Errors are in the words of the machine that
// saw them.
type Observation struct {
	Address string    `json:"address"` // IP:port
	From    string    `json:"from"`    // who looked
	At      time.Time `json:"at"`
	// Unreachable says why no connection could be made at all; then nothing
	// below is set.
	Unreachable string `json:"unreachable,omitempty"`

	Modern Handshake `json:"modern"` // offering TLS 1.3 alone
	Older  Handshake `json:"older"`  // offering TLS 1.0 to 1.2 alone
	Plain  Plain     `json:"plain"`
}

// Handshake is one attempt.
type Handshake struct {
	Error   string `json:"error,omitempty"` // why it failed; empty: it did not
	Version string `json:"version,omitempty"`
	Cipher  string `json:"cipher,omitempty"`
	Group   string `json:"group,omitempty"`
	ALPN    string `json:"alpn,omitempty"`
	// Asks: it would go no further without a certificate of the caller's, which
	// an auditor has not.
	Asks  bool     `json:"asks,omitempty"`
	Chain [][]byte `json:"chain,omitempty"` // DER, leaf first
}

// Plain is what came back for a request without TLS.
type Plain struct {
	// Refused: the connection was closed, or a TLS alert came back.
	Refused bool   `json:"refused"`
	Detail  string `json:"detail"`
}

// Probe looks at a port: with TLS 1.3, with older versions, and in plain text.
// sni is the server name to ask for. It makes three connections, side by side
// once the first stands, and sends no more than one request line, in plain text.
func Probe(ctx context.Context, address, sni string, h2 bool) Observation {
	o := Observation{Address: address, At: time.Now().UTC()}
	dial := func() (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, probeTime)
		defer cancel()
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	first, err := dial()
	if err != nil {
		o.Unreachable = words(err)
		return o
	}
	alpn := []string{"h2", "http/1.1"}
	var all sync.WaitGroup
	all.Go(func() {
		o.Modern = handshake(ctx, first, &tls.Config{MinVersion: tls.VersionTLS13, ServerName: sni, NextProtos: alpn})
	})
	all.Go(func() {
		conn, err := dial()
		if err != nil {
			o.Older.Error = words(err)
			return
		}
		o.Older = handshake(ctx, conn, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12, CipherSuites: suites(), ServerName: sni, NextProtos: alpn}) //nolint:gosec // it is to be refused
	})
	all.Go(func() {
		conn, err := dial()
		if err != nil {
			o.Plain = Plain{Refused: true, Detail: words(err)}
			return
		}
		o.Plain = plain(conn, sni, h2)
	})
	all.Wait()
	return o
}

// suites are all that Go knows: an old server must not hide behind a list.
func suites() []uint16 {
	var out []uint16
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		out = append(out, s.ID)
	}
	return out
}

// handshake never trusts and never refuses a certificate: [Judge] does.
func handshake(ctx context.Context, conn net.Conn, c *tls.Config) Handshake {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	c.InsecureSkipVerify = true
	client := tls.Client(conn, c)
	begun := time.Now()
	if err := client.HandshakeContext(ctx); err != nil {
		return Handshake{Error: words(err)}
	}
	// In TLS 1.3 a server may refuse when the client believes to be done: a round
	// trip later, of which the handshake took a few.
	_ = client.SetReadDeadline(time.Now().Add(50*time.Millisecond + 5*time.Since(begun))) //nolint:errcheck // reading then fails at once
	_, err := client.Read(make([]byte, 1))
	alert, refused := errors.AsType[*net.OpError](err)
	refused = refused && alert.Op == "remote error" // crypto/tls's word for an alert
	if refused && !strings.Contains(alert.Error(), certificateRequired) {
		return Handshake{Error: words(err)}
	}
	st := client.ConnectionState()
	h := Handshake{Version: tls.VersionName(st.Version), Cipher: tls.CipherSuiteName(st.CipherSuite), Group: st.CurveID.String(), ALPN: st.NegotiatedProtocol, Asks: refused}
	for _, cert := range st.PeerCertificates {
		h.Chain = append(h.Chain, cert.Raw)
	}
	return h
}

// certificateRequired is how crypto/tls says alert 116 of RFC 8446.
const certificateRequired = "certificate required"

func timedOut(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

// preface opens a connection of HTTP/2 with an empty SETTINGS frame.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// plain sends a request without TLS. Any answer but a TLS alert means that the
// port takes plain text; so does silence on an open connection.
func plain(conn net.Conn, host string, h2 bool) Plain {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(listenTime)) //nolint:errcheck // the calls below then fail
	request := "GET / HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: patchbay-verify\r\nConnection: close\r\n\r\n"
	if h2 {
		request = preface
	}
	if _, err := conn.Write([]byte(request)); err != nil {
		return Plain{Refused: true, Detail: words(err)}
	}
	answer := make([]byte, 512)
	n, err := conn.Read(answer)
	switch {
	case n >= 2 && answer[0] == 0x15 && answer[1] == 0x03:
		return Plain{Refused: true, Detail: "a TLS alert came back"}
	case bytes.HasPrefix(answer, []byte("HTTP/1")) && bytes.Contains(answer[:n], []byte(" 400 ")) && bytes.Contains(answer[:n], []byte("HTTPS")):
		// So some servers say in plain text that they take none.
		return Plain{Refused: true, Detail: "it answered only that it wants TLS"}
	case n > 0:
		line, _, _ := strings.Cut(string(answer[:n]), "\r")
		return Plain{Detail: fmt.Sprintf("it answered %q", line)}
	case err != nil && timedOut(err):
		return Plain{Detail: "the connection stayed open, and silent"}
	}
	return Plain{Refused: true, Detail: "the connection was closed"}
}

// words are an error without the addresses that are said elsewhere.
func words(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		err = op.Err
	}
	return err.Error()
}

// Certificates parses the chain of a handshake.
func (h Handshake) Certificates() ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, der := range h.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate of the peer: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}
