// Package etcdclient connects to an etcd cluster, for whoever keeps something
// there. It must not know what that is.
package etcdclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Options say where the cluster is and how to be let in.
type Options struct {
	// Endpoints are URLs of its members, such as http://127.0.0.1:2379; one
	// that is away is passed over.
	Endpoints []string
	// CAFile verifies members with https URLs; empty: the system's roots.
	CAFile string
	// CertFile and KeyFile are what they know us by (--client-cert-auth); its
	// common name is etcd's user. Both or none.
	CertFile, KeyFile string
}

// Dial returns a client. It asks the cluster nothing: one that is away is an
// error of the first call, and tried again within a second.
func Dial(o Options) (*clientv3.Client, error) {
	t, err := o.tls()
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = 50*time.Millisecond, time.Second
	c, err := clientv3.New(clientv3.Config{
		Endpoints: o.Endpoints, TLS: t, Logger: zap.NewNop(), // every call returns its error
		// A member takes a ping every five seconds at most; one that is silent
		// is left.
		DialKeepAliveTime: 6 * time.Second, DialKeepAliveTimeout: 2 * time.Second, PermitWithoutStream: true,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: 2 * time.Second})},
	})
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return c, nil
}

// tls reads the files.
func (o Options) tls() (*tls.Config, error) {
	if o.CAFile == "" && o.CertFile == "" && o.KeyFile == "" {
		return nil, nil //nolint:nilnil // no TLS of our own making
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate; allowed: PEM", o.CAFile)
		}
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("a certificate without its key, or a key without its certificate; allowed: both or none")
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
