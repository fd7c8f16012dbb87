package xds

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// Of each path that can be declared: whether a request for it meets it.

// declared are those of the requests above.
var declared = func() (out []string) {
	for _, call := range asked {
		if call.Method == http.MethodGet && !strings.Contains(call.Path, "?") {
			out = append(out, call.Path)
		}
	}
	return append(out, "/v1/%00", "/a;b=c", "/a;b/../c", "/.;x", "/%2D", "/a%5Fb", "/A%7e", "/%30", "/%5b", "/%25", "/-._~", "/a/..;b", "/a/..b/c")
}()

// TestARuleThatIsNotNamedUnmetIsMet, and one that is named so lets nobody in. Each
// path has a caller of its own, so that no other rule lets it in.
func TestARuleThatIsNotNamedUnmetIsMet(t *testing.T) {
	ca := testca.New(t)
	c := mutual(t, ca)
	exact, below := offer(t, "exact", mesh.HTTP, yes(t), "default"), offer(t, "below", mesh.HTTP, yes(t), "default")
	exact.Policy, below.Policy = wants(t, mode("required")), wants(t, mode("required"))
	exact.Policy.Authorization, below.Policy.Authorization = &policy.Authorization{}, &policy.Authorization{}
	caller := func(i int) mesh.Workload { return mesh.Workload{Namespace: "prod", Name: fmt.Sprint("w", i)} }
	for i, p := range declared {
		from := []string{caller(i).Name}
		exact.Policy.Authorization.Rules = append(exact.Policy.Authorization.Rules, policy.Rule{From: from, Paths: []string{p}})
		below.Policy.Authorization.Rules = append(below.Policy.Authorization.Rules, policy.Rule{From: from, Prefixes: []string{p}})
	}
	c.issue(t, ca, "exact", "1")
	c.issue(t, ca, "below", "1")
	c.store.SetServices("prod", nil)
	c.task(t, "prod/api/1", "", exact, below)
	unmet := map[string]bool{}
	for _, x := range append(exact.Policy.Unmet(), below.Policy.Unmet()...) {
		unmet[x.Path] = true
	}
	next := make(chan int)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range next {
				cert := certificate(t)(ca.Issue(t, caller(i).SPIFFEID("mesh.test")))
				for list, port := range map[string]uint16{"paths": exact.ListenerPort, "prefixes": below.ListenerPort} {
					line := &line{ctx: t.Context(), port: port, cert: cert}
					path := declared[i]
					if list == "prefixes" {
						path = strings.TrimSuffix(path, "/") + "/x"
					}
					code, err := line.ask(policy.Call{Method: http.MethodGet, Path: path})
					named := unmet[fmt.Sprintf("authorization.rules[%d].%s[0]", i, list)]
					if err != nil || named == (code == http.StatusOK) {
						t.Errorf("%s %s: named unmet is %v, and a request is answered %d, %v", list, declared[i], named, code, err)
					}
					line.close()
				}
			}
		})
	}
	for i := range declared {
		next <- i
	}
	close(next)
	all.Wait()
	if len(unmet) == 0 || len(unmet) == 2*len(declared) {
		t.Errorf("%d of %d are named", len(unmet), 2*len(declared))
	}
}

// TestEveryRouteIsMet: the paths of routes are compared as they are sent.
func TestEveryRouteIsMet(t *testing.T) {
	c := startControl(t, 0)
	port := offer(t, "api", mesh.HTTP, yes(t), "")
	s := offered(mesh.HTTP, freeAlias(t, "api"), port)
	s.Policy = &policy.Policy{}
	var requests []string
	add := func(m policy.Match, path string) {
		n := fmt.Sprint("r", len(requests))
		m.Headers = map[string]string{"x-route": n}
		r := policy.Route{Match: m, Rewrite: &policy.Rewrite{Host: n}}
		if wrong := (&policy.Policy{Routes: []policy.Route{r}}).Problems(); wrong != nil {
			t.Fatal(wrong)
		}
		s.Policy.Routes = append(s.Policy.Routes, r)
		requests = append(requests, path)
	}
	for _, p := range declared {
		add(policy.Match{Path: p}, p)
		add(policy.Match{Prefix: p}, strings.TrimSuffix(p, "/")+"/x")
	}
	c.store.SetServices("prod", []*mesh.Service{s})
	c.task(t, "prod/api/1", "", port)
	c.task(t, "prod/web/1", "")
	conn, err := net.Dial("tcp", vip(s.Aliases[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for i, path := range requests {
		want := fmt.Sprint("r", i)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: api.prod\r\nX-Route: %s\r\n\r\n", path, want)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != want {
			m, _ := json.Marshal(s.Policy.Routes[i].Match)
			t.Errorf("%s: a request for %s is answered %d %q, %v", m, path, resp.StatusCode, got, err)
		}
	}
}
