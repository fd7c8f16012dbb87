package containers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"patchbay/demo/evidence"
	"patchbay/internal/poll"
)

// state is where a sidecar keeps its state, in its container.
const state = "/var/lib/patchbay/sidecar"

// inside is a path in the container, as this machine sees it.
func (c container) inside(path string) string {
	return filepath.Join("/proc", strconv.Itoa(c.pid), "root", path)
}

// envoy asks the admin interface of the Envoy in c.
func (c container) envoy(ctx context.Context, path string) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.inside(state+"/admin.sock"))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy"+path, nil)
	if err != nil {
		return "", err
	}
	return answer(client.Do(req))
}

func answer(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s: %s", resp.Status, body)
	}
	return string(body), err
}

// counter is one of Envoy's statistics; zero if Envoy has not counted it yet.
func (c container) counter(ctx context.Context, name string) (int, error) {
	text, err := c.envoy(ctx, "/stats?filter=^"+strings.ReplaceAll(name, ".", `\.`)+"$")
	if err != nil {
		return 0, err
	}
	_, v, ok := strings.Cut(text, ": ")
	if !ok {
		return 0, nil
	}
	return strconv.Atoi(strings.TrimSpace(v))
}

// hosts is the container's hosts file.
func (c container) hosts() (string, error) {
	b, err := os.ReadFile(c.inside("/etc/hosts"))
	return string(b), err
}

// dial opens a TLS connection from this machine to the ingress of c's first
// service.
func (c container) dial(ctx context.Context, cfg *tls.Config) (tls.ConnectionState, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: cfg}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(c.addr, "15010"))
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState(), nil
}

// leaf is the certificate on the wire, verified against the CA's root.
func (m *mesh) leaf(ctx context.Context, c container) (*x509.Certificate, error) {
	ca, err := m.one(ctx, "patchbay-ca")
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(ca.inside("/ca-share/*.crt"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(errors.New("the CA's root is not in its shared directory"), err)
	}
	root, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		return nil, errors.New("the CA's root is not a certificate")
	}
	s, err := c.dial(ctx, &tls.Config{ServerName: "backend.demo", RootCAs: roots, MinVersion: tls.VersionTLS13})
	if err != nil {
		return nil, err
	}
	return s.PeerCertificates[0], nil
}

// token is that of the admin interface, as a user on the host gets it.
func (m *mesh) token(ctx context.Context) (string, error) {
	return m.run(ctx, "exec", "-T", "patchbay", "patchbay", "token", "admin", "--data", "/data")
}

// call calls the control plane's admin interface from the host.
func call(ctx context.Context, method, path, token string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://127.0.0.1:18002"+path, nil)
	if err != nil {
		return "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return answer(client.Do(req))
}

// load is an ordinary HTTP client in the frontend's network that calls at a
// fixed rate, whatever the answers do.
type load struct{ id string }

func (l load) now(ctx context.Context) (t evidence.Tally, err error) {
	out, err := output(ctx, "docker", "logs", "--tail", "1", l.id)
	if err == nil && out != "" {
		err = json.Unmarshal([]byte(out), &t)
	}
	return t, err
}

// underLoad runs f while url is called from the frontend at rate, and fails if
// one request does.
func (m *mesh) underLoad(ctx context.Context, url string, rate int, f func(load) error) (evidence.Tally, error) {
	t, err := m.load(ctx, url, rate, f)
	if err == nil {
		err = t.Lost()
	}
	return t, err
}

// load runs f while url is called from the frontend at rate.
func (m *mesh) load(ctx context.Context, url string, rate int, f func(load) error) (evidence.Tally, error) {
	net, err := m.one(ctx, "frontend-net")
	if err != nil {
		return evidence.Tally{}, err
	}
	id, err := output(ctx, "docker", "run", "-d", "--network", "container:"+net.id, "patchbay-demoapp:dev",
		"load", "--rate", strconv.Itoa(rate), "--duration", "3m", url)
	if err != nil {
		return evidence.Tally{}, err
	}
	defer output(context.WithoutCancel(ctx), "docker", "rm", "-f", id)
	l := load{id}
	err = poll.Until(ctx, patience, func() error {
		t, err := l.now(ctx)
		if err == nil {
			err = t.Begun()
		}
		return err
	})
	if err == nil {
		err = f(l)
	}
	if err == nil {
		err = evidence.Pause(ctx, time.Second)
	}
	if _, stopErr := output(ctx, "docker", "stop", "-t", "15", id); stopErr != nil {
		return evidence.Tally{}, errors.Join(err, stopErr)
	}
	t, logErr := l.now(ctx)
	switch err = errors.Join(err, logErr); {
	case err != nil:
	case !t.Done:
		err = errors.New("the load did not end cleanly")
	case t.Sent < 2*rate:
		err = fmt.Errorf("only %d requests were made", t.Sent)
	}
	return t, err
}
