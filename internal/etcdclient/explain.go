package etcdclient

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// lookTime bounds a look at all members; lookAgain is how long what was
	// seen counts.
	lookTime  = 2 * time.Second
	lookAgain = 5 * time.Second
)

// Guide says of failed calls what is wrong and what to do: etcd's client says
// of a member that it can't reach, whatever the reason, that time is up. It is
// safe for concurrent use.
type Guide struct {
	o Options

	mu   sync.Mutex
	at   time.Time
	last string
}

// NewGuide is for clients of these options.
func NewGuide(o Options) *Guide { return &Guide{o: o} }

// Explain adds to an error of a client. It may look at the members for two
// seconds.
func (g *Guide) Explain(err error) error {
	remedy := ""
	switch {
	case errors.Is(err, rpctypes.ErrUserEmpty):
		remedy = "etcd asks who calls; allowed: user and passwordFile, or a certificate whose common name is a user of etcd"
	case errors.Is(err, rpctypes.ErrAuthFailed):
		remedy = "compare user and passwordFile with etcd's users"
	case errors.Is(err, rpctypes.ErrPermissionDenied):
		remedy = "this allows it: etcdctl role grant-permission ROLE --prefix=true readwrite " + g.o.Prefix
	case errors.Is(err, context.DeadlineExceeded), status.Code(err) == codes.Unavailable:
		remedy = g.look()
	}
	if remedy == "" {
		return err
	}
	return fmt.Errorf("%w; %s", err, remedy)
}

// look is what is wrong with members; empty if they are well.
func (g *Guide) look() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.at) < lookAgain {
		return g.last
	}
	g.at, g.last = time.Now(), ""
	config, err := g.o.tls()
	if err != nil {
		g.last = err.Error()
		return g.last
	}
	client := &http.Client{Timeout: lookTime, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	said := make([]string, len(g.o.Endpoints))
	var wait sync.WaitGroup
	for i, url := range g.o.Endpoints {
		wait.Go(func() { said[i] = health(client, url) })
	}
	wait.Wait()
	g.last = strings.Join(slices.DeleteFunc(said, func(s string) bool { return s == "" }), "; ")
	return g.last
}

// health is what is wrong with one member.
func health(client *http.Client, url string) string {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, strings.TrimSuffix(url, "/")+"/health", http.NoBody)
	if err != nil {
		return err.Error()
	}
	resp, err := client.Do(req)
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return url + " has a certificate of another CA; compare caFile"
	case err != nil && (strings.Contains(err.Error(), "certificate required") || strings.Contains(err.Error(), "bad certificate") || strings.Contains(err.Error(), "unknown certificate authority")):
		return url + " does not take our certificate; compare certFile with etcd's trusted CA"
	case errors.Is(err, io.EOF) && strings.HasPrefix(url, "http://"):
		return url + " ends the connection; it probably wants TLS: https://"
	case err != nil:
		return err.Error() // names the URL
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err == nil && resp.StatusCode == http.StatusOK {
		return ""
	}
	return fmt.Sprintf("%s answers %s: %.200s", url, resp.Status, strings.TrimSpace(string(text)))
}
