package envoy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// adminTime bounds one question; a busy Envoy answers between two updates.
const adminTime = 2 * time.Second

// maxAnswer bounds what is read of one answer.
const maxAnswer = 16 << 20

// Admin asks a running Envoy. It is safe for concurrent use. Every call fails
// while Envoy is not there.
type Admin struct{ client *http.Client }

// NewAdmin talks to the admin interface on a Unix socket.
func NewAdmin(socket string) *Admin {
	return &Admin{&http.Client{Timeout: adminTime, Transport: &http.Transport{
		MaxIdleConnsPerHost: 1,
		IdleConnTimeout:     10 * time.Second,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

func (a *Admin) ask(ctx context.Context, method, path string, query url.Values) ([]byte, error) {
	u := url.URL{Scheme: "http", Host: "envoy", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask Envoy %s: %w", path, err)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask Envoy %s: %w", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("ask Envoy %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK && path != "/ready" {
		return nil, fmt.Errorf("ask Envoy %s: %s: %s", path, resp.Status, bytes.TrimSpace(body))
	}
	return body, nil
}

// State is Envoy's own word: LIVE once it has its first configuration and its
// workers run, PRE_INITIALIZING or INITIALIZING before.
func (a *Admin) State(ctx context.Context) (string, error) {
	b, err := a.ask(ctx, http.MethodGet, "/ready", nil)
	return string(bytes.TrimSpace(b)), err
}

// Listeners are the names of the listeners that accept connections, also of
// those that are not bound to a port. One that still warms is not among them.
func (a *Admin) Listeners(ctx context.Context) (map[string]bool, error) {
	b, err := a.ask(ctx, http.MethodGet, "/listeners", nil)
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for line := range strings.Lines(string(b)) { // name::address
		if name, _, ok := strings.Cut(line, "::"); ok {
			out[name] = true
		}
	}
	return out, nil
}

// Refused says, in Envoy's own words, which listeners it does not open and
// why; sorted.
func (a *Admin) Refused(ctx context.Context) ([]string, error) {
	b, err := a.ask(ctx, http.MethodGet, "/config_dump", url.Values{"resource": {"dynamic_listeners"}, "mask": {"name,error_state.details"}})
	if err != nil {
		return nil, err
	}
	var dump struct {
		Configs []struct {
			Name       string `json:"name"`
			ErrorState struct {
				Details string `json:"details"`
			} `json:"error_state"`
		} `json:"configs"`
	}
	if err := json.Unmarshal(b, &dump); err != nil {
		return nil, fmt.Errorf("read Envoy's listeners: %w", err)
	}
	var out []string
	for _, c := range dump.Configs {
		if c.Name != "" && c.ErrorState.Details != "" {
			out = append(out, c.Name+": "+c.ErrorState.Details)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Secrets are the names of the secrets that came by SDS and are in use. One
// that was asked for, and answered as not there, is not among them.
func (a *Admin) Secrets(ctx context.Context) (map[string]bool, error) {
	b, err := a.ask(ctx, http.MethodGet, "/config_dump", url.Values{"resource": {"dynamic_active_secrets"}, "mask": {"name"}})
	if err != nil {
		return nil, err
	}
	var dump struct {
		Configs []struct {
			Name string `json:"name"`
		} `json:"configs"`
	}
	if err := json.Unmarshal(b, &dump); err != nil {
		return nil, fmt.Errorf("read Envoy's secrets: %w", err)
	}
	out := map[string]bool{}
	for _, c := range dump.Configs {
		out[c.Name] = true
	}
	return out, nil
}

// Stats are the counters and gauges whose names match the regular expression.
func (a *Admin) Stats(ctx context.Context, filter string) (map[string]uint64, error) {
	b, err := a.ask(ctx, http.MethodGet, "/stats", url.Values{"filter": {filter}})
	if err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ": ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			out[name] = n
		}
	}
	return out, nil
}

// pages are those that an operator may see, by name. Envoy redacts keys in the
// dump of its configuration.
var pages = map[string]struct {
	path  string
	query url.Values
}{
	"certs":       {"/certs", nil},
	"clusters":    {"/clusters", url.Values{"format": {"json"}}},
	"config_dump": {"/config_dump", url.Values{"include_eds": {""}}},
	"listeners":   {"/listeners", url.Values{"format": {"json"}}},
	"memory":      {"/memory", nil},
	"server_info": {"/server_info", nil},
	"stats":       {"/stats", url.Values{"format": {"json"}}},
}

// Page is a page of Envoy's admin interface as it prints it, in JSON. filter is
// a regular expression for the statistics of the page stats.
func (a *Admin) Page(ctx context.Context, name, filter string) ([]byte, error) {
	p, ok := pages[name]
	if !ok {
		return nil, fmt.Errorf("there is no page %q; there are: %s", name, strings.Join(slices.Sorted(maps.Keys(pages)), ", "))
	}
	query := maps.Clone(p.query)
	if name == "stats" && filter != "" {
		query.Set("filter", filter)
	}
	return a.ask(ctx, http.MethodGet, p.path, query)
}

// Detailed is the page of the statistics that match the regular expression, in
// JSON, histograms with their intervals.
func (a *Admin) Detailed(ctx context.Context, filter string) ([]byte, error) {
	return a.ask(ctx, http.MethodGet, "/stats", url.Values{"format": {"json"}, "histogram_buckets": {"detailed"}, "filter": {filter}})
}

var counted = regexp.MustCompile(`^envoy_cluster_upstream_cx_connect_ms_count\{envoy_cluster_name="([^"]+)"\} (\d+)$`)

// Established is how many connections to each cluster have stood, their TLS
// handshakes included: unlike the counter of connections it has no attempts, nor
// what is still under way. It may be some seconds old.
func (a *Admin) Established(ctx context.Context) (map[string]uint64, error) {
	b, err := a.ask(ctx, http.MethodGet, "/stats/prometheus", url.Values{"filter": {`\.upstream_cx_connect_ms$`}, "usedonly": {""}})
	if err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	for line := range strings.Lines(string(b)) {
		if m := counted.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			n, err := strconv.ParseUint(m[2], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("read Envoy's statistics: %w", err)
			}
			out[m[1]] += n
		}
	}
	return out, nil
}

// SetRuntime overrides values of Envoy's runtime by their keys; an empty value
// takes the override away. They end with Envoy.
func (a *Admin) SetRuntime(ctx context.Context, values map[string]string) error {
	query := url.Values{}
	for k, v := range values {
		query.Set(k, v)
	}
	_, err := a.ask(ctx, http.MethodPost, "/runtime_modify", query)
	return err
}

// Runtime are the overrides of Envoy's runtime that are in force, by key.
func (a *Admin) Runtime(ctx context.Context) (map[string]string, error) {
	b, err := a.ask(ctx, http.MethodGet, "/runtime", nil)
	if err != nil {
		return nil, err
	}
	var dump struct {
		Entries map[string]struct {
			Value string `json:"final_value"`
		} `json:"entries"`
	}
	if err := json.Unmarshal(b, &dump); err != nil {
		return nil, fmt.Errorf("read Envoy's runtime: %w", err)
	}
	out := map[string]string{}
	for k, e := range dump.Entries {
		out[k] = e.Value
	}
	return out, nil
}
