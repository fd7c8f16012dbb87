// Package etcdclient connects to an etcd cluster, for whoever keeps something
// there. It must not know what that is.
package etcdclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
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
	// Prefix begins the keys that are used; advice about permissions names it.
	Prefix string
	// CAFile verifies members with https URLs; empty: the system's roots.
	CAFile string
	// CertFile and KeyFile are what they know us by (--client-cert-auth); its
	// common name is etcd's user. Both or none.
	CertFile, KeyFile string
	// User and the password in PasswordFile are another way to be known. Both or
	// none.
	User, PasswordFile string
}

// Dial returns a client. Without a user it asks the cluster nothing: one that is
// away is an error of the first call, and tried again within a second. With one
// it waits until the cluster has let it in or refused it, or ctx ends; waiting
// is told why, and may be nil.
func Dial(ctx context.Context, o Options, waiting func(error)) (*clientv3.Client, error) {
	t, err := o.tls()
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	password, err := o.password()
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	guide := NewGuide(o)
	for {
		c, err := o.dial(t, password)
		if err == nil {
			return c, nil
		}
		err = fmt.Errorf("etcd: %w", guide.Explain(err))
		if !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		if waiting != nil {
			waiting(err)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// Connect is [Dial] for a process that logs what it waits for, each reason once,
// and with the guide that explains errors of the client's calls.
func Connect(ctx context.Context, o Options, log *slog.Logger) (*clientv3.Client, *Guide, error) {
	told := ""
	client, err := Dial(ctx, o, func(err error) {
		if err.Error() != told {
			told = err.Error()
			log.WarnContext(ctx, "waiting to be let in by etcd", "error", told)
		}
	})
	return client, NewGuide(o), err
}

// password is what PasswordFile holds; an end of line does not count.
func (o Options) password() (string, error) {
	if (o.User == "") != (o.PasswordFile == "") {
		return "", errors.New("a user without a password, or a password without a user; allowed: both or none")
	}
	if o.User == "" {
		return "", nil
	}
	text, err := os.ReadFile(o.PasswordFile)
	if err == nil && strings.TrimSpace(string(text)) == "" {
		err = fmt.Errorf("%s is empty; allowed: the password of %s", o.PasswordFile, o.User)
	}
	return strings.TrimRight(string(text), "\r\n"), err
}

// loginTime is how long one attempt to be let in may take.
const loginTime = 5 * time.Second

func (o Options) dial(t *tls.Config, password string) (*clientv3.Client, error) {
	retry := backoff.DefaultConfig
	retry.BaseDelay, retry.MaxDelay = 50*time.Millisecond, time.Second
	return clientv3.New(clientv3.Config{
		Endpoints: o.Endpoints, TLS: t, Username: o.User, Password: password, DialTimeout: loginTime, Logger: zap.NewNop(), // every call returns its error
		// A member takes a ping every five seconds at most; one that is silent
		// is left.
		DialKeepAliveTime: 6 * time.Second, DialKeepAliveTimeout: 2 * time.Second, PermitWithoutStream: true,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: 2 * time.Second})},
	})
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
