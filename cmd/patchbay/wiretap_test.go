package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that is recorded
	"google.golang.org/grpc/mem"
)

// wiretap keeps every byte that a client receives: what comes out of TLS, and
// the messages once more, as frames may cut through a key. It is a credential
// and a codec, so that nothing comes past it.
type wiretap struct {
	credentials.TransportCredentials
	encoding.CodecV2
	book *tapBook
}

type tapBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *tapBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *tapBook) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.b.Bytes())
}

type tappedConn struct {
	net.Conn
	to io.Writer
}

func (c tappedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.to.Write(p[:n])
	return n, err
}

func newWiretap(c credentials.TransportCredentials) wiretap {
	return wiretap{c, encoding.GetCodecV2("proto"), &tapBook{}}
}

func (w wiretap) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := w.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return nil, nil, err
	}
	return tappedConn{conn, w.book}, info, nil
}

func (w wiretap) Clone() credentials.TransportCredentials {
	return wiretap{w.TransportCredentials.Clone(), w.CodecV2, w.book}
}

func (w wiretap) Unmarshal(data mem.BufferSlice, v any) error {
	w.book.Write(data.Materialize())
	return w.CodecV2.Unmarshal(data, v)
}

// forms are the spellings in which a private key could cross a wire.
func forms(t *testing.T, key *ecdsa.PrivateKey) [][]byte {
	t.Helper()
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	all := [][]byte{scalar} // also what every DER form holds
	for _, der := range [][]byte{pkcs8, sec1} {
		for line := range bytes.SplitSeq(pem.EncodeToMemory(&pem.Block{Type: "X", Bytes: der}), []byte("\n")) {
			if len(line) > 32 && !bytes.HasPrefix(line, []byte("-----")) {
				all = append(all, line)
			}
		}
	}
	return all
}

func parseECKey(t *testing.T, text []byte) *ecdsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	ec, ok := key.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		t.Fatalf("not an EC key: %v", err)
	}
	return ec
}

func (w wiretap) holds(t *testing.T, key *ecdsa.PrivateKey) bool {
	t.Helper()
	came := w.book.Bytes()
	for _, form := range forms(t, key) {
		if bytes.Contains(came, form) {
			return true
		}
	}
	return false
}
