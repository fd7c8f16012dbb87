package pki

import (
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/audit"
	"patchbay/internal/testca"
	"patchbay/mesh"
	"patchbay/pki/issue"
)

func caller(name string) mesh.Workload { return mesh.Workload{Namespace: "prod", Name: name} }

// leafOf is the certificate that a workload calls with.
func (w *world) leafOf(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	l := w.store.Snapshot().Leaves[caller(name).CertificateName()]
	if l == nil {
		t.Fatalf("%s has none", name)
	}
	return must(issue.ParseCertificates(l.ChainPEM))[0]
}

func TestACallersCertificateIsKeptFresh(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		var mu sync.Mutex
		var told []audit.Event
		w.o.CallersIssuer = "default"
		w.o.Audit = func(e audit.Event) { mu.Lock(); defer mu.Unlock(); told = append(told, e) }
		w.store.SetServices("prod", []*mesh.Service{svc("web")})
		w.store.SetCallers([]mesh.Workload{caller("web"), caller("batch")})
		w.start()
		w.pass(time.Second)
		first := w.leafOf(t, "web")
		if len(first.URIs) != 1 || first.URIs[0].String() != "spiffe://mesh.test/workload/prod/web" || len(first.DNSNames) > 0 {
			t.Errorf("it names %v %v", first.URIs, first.DNSNames)
		}
		if !slices.Contains(first.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
			t.Error("it is not for clients")
		}
		if w.leaf("web").Equal(w.store.Snapshot().Leaves[caller("web").CertificateName()]) {
			t.Error("a service and a workload of one name share a certificate")
		}
		mu.Lock()
		if i := slices.IndexFunc(told, func(e audit.Event) bool { return e.Subject == "workload/web.prod" }); i < 0 ||
			told[i].Kind != audit.CertificateIssued || !slices.Equal(told[i].SANs, []string{"spiffe://mesh.test/workload/prod/web"}) {
			t.Errorf("the audit log is told %+v", told)
		}
		mu.Unlock()
		w.pass(20 * time.Hour)
		if again := w.leafOf(t, "web"); again.SerialNumber.Cmp(first.SerialNumber) == 0 {
			t.Error("it is not renewed")
		}
		issues := len(w.ca.issues())
		renewed := w.leafOf(t, "web")
		w.restart() // nobody asks again when what is stored still lasts
		w.store.SetCallers([]mesh.Workload{caller("web")})
		w.pass(time.Second)
		if got := w.leafOf(t, "web"); got.SerialNumber.Cmp(renewed.SerialNumber) != 0 || len(w.ca.issues()) != issues {
			t.Errorf("after a restart: serial %v, %d issues", got.SerialNumber, len(w.ca.issues()))
		}
	})
}

func TestACallersCertificateNeedsAnIssuer(t *testing.T) {
	inWorld(t, 24*time.Hour, func(t *testing.T, w *world) {
		w.o.CallersIssuer = "away"
		w.store.SetCallers([]mesh.Workload{caller("web")})
		w.start()
		w.pass(time.Second)
		st := w.rotator.Status().Services
		if len(st) != 1 || !strings.Contains(st[0].LastError, `issuer "away" is not configured`) {
			t.Errorf("%+v", st)
		}
	})
}

// An issuer that answers for somebody else is not believed: a workload can
// only be itself.
func TestAForgedIdentityIsRefused(t *testing.T) {
	ca := testca.Named(t, "ca")
	r := issue.ForWorkload("mesh.test", caller("web"))
	for what, c := range map[string]struct {
		want   string
		change func(*x509.Certificate)
	}{
		"as asked":             {"", func(*x509.Certificate) {}},
		"its name":             {"", func(c *x509.Certificate) { c.Subject.CommonName = "web" }},
		"another's":            {"URIs", func(c *x509.Certificate) { c.URIs[0].Path = "/workload/prod/admin" }},
		"a service's":          {"URIs", func(c *x509.Certificate) { c.URIs[0].Path = "/service/prod/web" }},
		"another trust domain": {"URIs", func(c *x509.Certificate) { c.URIs[0].Host = "evil.test" }},
		"two identities":       {"URIs", func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }},
		"a service's name":     {"DNS names", func(c *x509.Certificate) { c.DNSNames = []string{"web.prod"} }},
		"for servers only":     {"clientAuth", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }},
	} {
		key, csr := prepared(r)
		tmpl := leafTemplate(csr, time.Hour)
		c.change(tmpl)
		_, err := issue.Accept(r, []*x509.Certificate{ca.Sign(tmpl, csr.PublicKey)}, key, time.Hour, []*x509.Certificate{ca.Cert}, time.Now())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
}
