package xds

import (
	"strings"
	"testing"
	"time"

	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/mesh/policy"
	"patchbay/xds/delta"
	"patchbay/xds/translate"
)

// asking is an encrypted service that asks for certificates.
func asking(n, mode string, addrs ...string) *mesh.Service {
	s := service(n, 1, addrs...)
	s.TLS = &mesh.ServiceTLS{Issuer: "default"}
	for i := range s.Endpoints {
		s.Endpoints[i].TLS = true
	}
	if mode != "" {
		s.Policy = &policy.Policy{MutualTLS: &policy.MutualTLS{Mode: mode}}
	}
	return s
}

func (w *world) identify(t *testing.T, ca *testca.CA, workload string) {
	t.Helper()
	who := mesh.Workload{Namespace: "prod", Name: workload}
	chain, key := ca.Issue(t, who.SPIFFEID("mesh.test"))
	w.store.SetLeaf(&mesh.Leaf{Service: who.CertificateName(), Issuer: "default", ChainPEM: chain, KeyPEM: key})
}

func (s *sidecar) presents(t *testing.T) bool {
	t.Helper()
	c := s.resource(delta.ClusterType, "api.prod")
	if c == nil {
		t.Fatal("there is no cluster")
	}
	return strings.Contains(c.String(), translate.IdentitySecret)
}

func (s *sidecar) calls(ip string) bool {
	return strings.Contains(s.resource(delta.EndpointType, "api.prod").String(), ip)
}

func (w *world) callers() (names []string) {
	for _, c := range w.store.Snapshot().Callers {
		names = append(names, c.String())
	}
	return names
}

func TestCallersHaveACertificateBeforeItIsRequired(t *testing.T) {
	ca := testca.New(t)
	bubble(t, func(t *testing.T, w *world) {
		w.store.SetBundle(&mesh.Bundle{Issuer: "default", RootsPEM: ca.RootPEM})
		w.set(asking("api", "", "10.0.0.1:80"))
		web, batch := w.connect(t, caller{id: "prod/web/1"}), w.connect(t, caller{id: "prod/batch/1"})
		time.Sleep(time.Second)
		if web.presents(t) || w.callers() != nil {
			t.Fatalf("nobody asks, and %v need certificates", w.callers())
		}
		w.set(asking("api", policy.Required, "10.0.0.2:80"))
		time.Sleep(time.Second)
		if got := strings.Join(w.callers(), " "); got != "prod/batch prod/web" {
			t.Errorf("%q need certificates", got)
		}
		w.identify(t, ca, "web")
		time.Sleep(time.Second)
		if web.presents(t) || web.calls("10.0.0.2") || !web.calls("10.0.0.1") {
			t.Error("a cluster presents, or an endpoint requires, what one of the view's nodes has not got")
		}
		batch.mu.Lock()
		batch.silent = true
		batch.mu.Unlock()
		w.identify(t, ca, "batch")
		time.Sleep(time.Second)
		if !web.presents(t) || web.calls("10.0.0.2") {
			t.Error("an endpoint that requires is called before all clusters present")
		}
		batch.mu.Lock()
		batch.silent = false
		batch.mu.Unlock()
		batch.cancel() // its answer is not waited for any more
		time.Sleep(time.Second)
		if !web.presents(t) || !web.calls("10.0.0.2") {
			t.Error("it is not called although everything is there")
		}
		web.subscribe(delta.SecretType, translate.IdentitySecret)
		if got := web.resource(delta.SecretType, translate.IdentitySecret); got == nil || !strings.Contains(got.String(), "BEGIN CERTIFICATE") {
			t.Error("the certificate is not delivered")
		}
		w.set(asking("api", policy.Off, "10.0.0.3:80"))
		time.Sleep(time.Second)
		if web.presents(t) || !web.calls("10.0.0.3") {
			t.Error("it still presents, or does not call")
		}
	}, Identities("mesh.test", "default"))
}

func TestACertificateIsItsWorkloadsAlone(t *testing.T) {
	ca := testca.New(t)
	bubble(t, func(t *testing.T, w *world) {
		w.store.SetBundle(&mesh.Bundle{Issuer: "default", RootsPEM: ca.RootPEM})
		w.set(asking("api", policy.Permissive, "10.0.0.1:80"))
		w.identify(t, ca, "web")
		w.identify(t, ca, "batch")
		serial := map[string]string{}
		for _, who := range []string{"web", "batch"} {
			s := w.connect(t, caller{id: "prod/" + who + "/1"})
			s.subscribe(delta.SecretType, translate.IdentitySecret, "leaf/workload/web.prod", "leaf/workload/batch.prod", "identity/web")
			got := s.resource(delta.SecretType, translate.IdentitySecret)
			if got == nil {
				t.Fatalf("%s has none", who)
			}
			serial[who] = got.GetVersion()
			for _, other := range []string{"leaf/workload/web.prod", "leaf/workload/batch.prod", "identity/web"} {
				if s.resource(delta.SecretType, other) != nil {
					t.Errorf("%s is given %s", who, other)
				}
			}
		}
		if serial["web"] == serial["batch"] {
			t.Error("two workloads have one certificate")
		}
	}, Identities("mesh.test", "default"))
}

func TestAnIssuerThatIsAwayHoldsNobodyUp(t *testing.T) {
	ca := testca.New(t)
	bubble(t, func(t *testing.T, w *world) {
		w.store.SetBundle(&mesh.Bundle{Issuer: "default", RootsPEM: ca.RootPEM})
		w.set(asking("api", policy.Permissive, "10.0.0.1:80"))
		w.identify(t, ca, "web")
		web := w.connect(t, caller{id: "prod/web/1"})
		time.Sleep(time.Second)
		batch := w.connect(t, caller{id: "prod/batch/1"})
		time.Sleep(identityWait - 2*time.Second)
		if batch.resource(delta.ClusterType, "api.prod") != nil {
			t.Error("its certificate is not waited for")
		}
		time.Sleep(3 * time.Second)
		if batch.presents(t) || !web.presents(t) || !batch.calls("10.0.0.1") {
			t.Errorf("presents: batch %v, web %v", batch.presents(t), web.presents(t))
		}
		w.identify(t, ca, "batch")
		time.Sleep(time.Second)
		if !batch.presents(t) {
			t.Error("its certificate has come, and is not used")
		}
		third := w.connect(t, caller{id: "prod/third/1"})
		time.Sleep(identityWait + time.Second)
		if third.presents(t) || !batch.presents(t) {
			t.Errorf("presents: third %v, batch %v", third.presents(t), batch.presents(t))
		}
	}, Identities("mesh.test", "default"))
}
