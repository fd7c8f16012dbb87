package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"

	"patchbay/agentapi"
	"patchbay/config"
	"patchbay/controlplane"
	"patchbay/identity"
	"patchbay/internal/envoytest"
	"patchbay/mesh/record"
)

// racing stands between two control planes and their registry. Of the orders
// that both write for a service, none passes before both have read what was
// there; the second passes when the first has been read back.
type racing struct {
	to *httputil.ReverseProxy

	mu  sync.Mutex
	all map[string]*race // by service
}

type race struct {
	first                string        // who writes first
	second, wrote, looks chan struct{} // closed when somebody else writes, when first has, when first has looked
}

func (r *racing) at(plane string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // it has given up
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		var in struct {
			ServiceID  string `json:"ServiceId"`
			Attributes json.RawMessage
		}
		_ = json.Unmarshal(body, &in) // else it is none of those below
		_, op, _ := strings.Cut(req.Header.Get("X-Amz-Target"), ".")
		r.mu.Lock()
		x := r.all[in.ServiceID]
		if x == nil {
			x = &race{second: make(chan struct{}), wrote: make(chan struct{}), looks: make(chan struct{})}
			r.all[in.ServiceID] = x
		}
		order := op == "UpdateServiceAttributes" && bytes.Contains(in.Attributes, []byte(`"`+record.AttrShift+`"`))
		first := order && x.first == ""
		second := order && !first && x.first != plane && !closed(x.second)
		looks := op == "GetServiceAttributes" && x.first == plane && closed(x.wrote) && !closed(x.looks)
		if first {
			x.first = plane
		}
		if second {
			close(x.second)
		}
		r.mu.Unlock()
		var until chan struct{}
		if first {
			until = x.second
		} else if second {
			until = x.looks
		}
		if until != nil {
			select {
			case <-until:
			case <-req.Context().Done():
				r.mu.Lock()
				defer r.mu.Unlock()
				if first && !closed(x.second) {
					x.first = "" // it begins anew
				}
				return
			}
		}
		r.to.ServeHTTP(w, req)
		r.mu.Lock()
		defer r.mu.Unlock()
		if first && !closed(x.wrote) {
			close(x.wrote)
		}
		if looks && !closed(x.looks) {
			close(x.looks)
		}
	}
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Two control planes on one registry are told to move the calls of one service
// to two revisions at once: whoever is answered 200 has what holds, and the other
// is answered 409, with what holds.
func TestTwoControlPlanesAreGivenOrdersAtOnce(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "y")
	r := startRegistry(t, "--listen", "127.0.0.1:0")
	to, err := url.Parse(r.url)
	if err != nil {
		t.Fatal(err)
	}
	between := &racing{to: httputil.NewSingleHostReverseProxy(to), all: map[string]*race{}}
	between.to.FlushInterval = -1
	shared := t.TempDir()
	if _, err := identity.OpenSigner(shared, testDomain); err != nil {
		t.Fatal(err)
	}
	planes := map[string]*plane{}
	for _, name := range []string{"a", "b"} {
		srv := httptest.NewServer(between.at(name))
		t.Cleanup(srv.Close)
		planes[name] = startPlane(t, func(c *config.Config) {
			c.Registry, c.CloudMap = nil, &config.CloudMap{Endpoint: srv.URL, Region: "us-east-1"}
			c.Replicas = &config.Replicas{Listen: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
			if err := os.CopyFS(identity.ControlDir(c.Data), os.DirFS(shared)); err != nil {
				t.Fatal(err)
			}
		})
	}
	const services = 12
	names := make([]string, services)
	for i := range names {
		names[i] = fmt.Sprintf("s%d", i)
	}
	for _, revision := range []string{"blue", "green"} {
		planes["a"].offers(names, revision)
	}
	for _, p := range planes {
		envoytest.Eventually(t, time.Minute, func() error {
			if n := p.endpoints(); n != 2*services {
				return fmt.Errorf("%v endpoints are shown", n)
			}
			return nil
		})
	}
	holds := orders(t, r.url)
	var held, lost int
	var mu sync.Mutex
	var wg sync.WaitGroup
	answers := map[string]map[string]string{} // service → who was told that it holds → its order
	for _, name := range names {
		answers[name] = map[string]string{}
	}
	for _, name := range names {
		for who, to := range map[string]string{"a": "green", "b": "blue"} {
			wg.Go(func() {
				status, d, text := planes[who].shifts(url.Values{"service": {name + ".demo"}, "to": {to}, "weight": {"10"}})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case status == http.StatusOK:
					held++
					answers[name][who] = d
				case status == http.StatusConflict && strings.Contains(text, "another order for "+name+".demo came in between, and holds: from "):
					lost++
				case status == http.StatusBadGateway: // the other one came so late that it was given up
				default:
					t.Errorf("%s at %s: %d %s", name, who, status, text)
				}
			})
		}
	}
	wg.Wait()
	for name, told := range answers {
		for who, id := range told {
			if now := holds(name); now != id {
				t.Errorf("%s: %s was told that %s holds; what holds is %s", name, who, id, now)
			}
		}
	}
	if held == 0 || lost == 0 {
		t.Errorf("%d hold and %d are lost: nothing was raced", held, lost)
	}
}

// offers registers a task of a revision that offers all these services.
func (p *plane) offers(names []string, revision string) {
	p.t.Helper()
	k, _ := p.joinAs("many", revision, names...)
	hello, health := &agentapi.Hello{AgentVersion: "test", EnvoyVersion: "1.40.0", Wiring: "bind", Revision: revision}, map[string]agentapi.Health_State{}
	for i, name := range names {
		hello.Ports = append(hello.Ports, &agentapi.Port{
			PortName: name, DiscoveryName: name, AppProtocol: "http", ContainerPort: 8080, IngressPort: uint32(15000 + i),
			ClientAliases: []*agentapi.ClientAlias{{DnsName: name + ".demo", Port: 8080}},
		})
		health[name] = agentapi.Health_HEALTHY
	}
	// Two tasks have one address here; they are told apart by their ports.
	if revision == "green" {
		for _, port := range hello.GetPorts() {
			port.IngressPort += 1000
		}
	}
	send(p.t, k, &agentapi.Up{Message: &agentapi.Up_Hello{Hello: hello}})
	send(p.t, k, &agentapi.Up{Message: &agentapi.Up_Health{Health: &agentapi.Health{EnvoyReady: true, Ports: health}}})
}

// shifts orders something by the admin interface: the status, the order's id, or
// what is wrong.
func (p *plane) shifts(v url.Values) (status int, id, text string) {
	token, err := controlplane.AdminToken(p.cfg)
	if err != nil {
		return 0, "", err.Error()
	}
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, "http://"+p.cfg.Admin.Listen+"/api/v1/shift?"+v.Encode(), http.NoBody)
	if err != nil {
		return 0, "", err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err.Error()
	}
	defer resp.Body.Close()
	var out struct{ ID, Error string }
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return 0, "", err.Error()
	}
	return resp.StatusCode, out.ID, out.Error
}

// orders reads which order of a service a registry has.
func orders(t *testing.T, registry string) func(service string) string {
	t.Helper()
	api := servicediscovery.New(servicediscovery.Options{Region: "us-east-1", BaseEndpoint: &registry, Credentials: aws.AnonymousCredentials{}})
	all, err := api.ListServices(t.Context(), &servicediscovery.ListServicesInput{MaxResults: aws.Int32(100)})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]*string{}
	for _, s := range all.Services {
		ids[*s.Name] = s.Id
	}
	return func(service string) string {
		out, err := api.GetServiceAttributes(t.Context(), &servicediscovery.GetServiceAttributesInput{ServiceId: ids[service]})
		if err != nil {
			t.Fatal(err)
		}
		if sh := record.ParseShift(out.ServiceAttributes.Attributes); sh != nil {
			return sh.ID
		}
		return ""
	}
}
