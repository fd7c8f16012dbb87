package registry

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
)

// A store that can't be written fails requests, and nothing else: what is known
// is served, and the background work is done when it can be.
func TestAStoreThatRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &counting{}
		l := &lab{t: t, open: st.open, o: Options{OperationDelay: 10 * time.Second}}
		l.start()
		defer func() { l.stop() }()
		ns := l.outcome(must[*sd.CreateHttpNamespaceOutput](t)(l.CreateHttpNamespace(t.Context(), &sd.CreateHttpNamespaceInput{Name: str("demo")})).OperationId).Targets["NAMESPACE"]
		l.sleep(11 * time.Second)
		svc := l.service(ns, "backend")
		l.register(svc, "a", tenSeconds)
		l.sleep(11 * time.Second)
		l.register(svc, "b")
		st.broken.Store(true)
		_, err := l.CreateService(t.Context(), &sd.CreateServiceInput{Name: str("other"), NamespaceId: &ns})
		failsWith(t, "a write", err, "InternalFailure")
		l.sleep(time.Minute) // b's registration and a's lease are due
		l.expect("meanwhile", "a:HEALTHY")
		if n := strings.Count(l.log.String(), "the registry can't write"); n != 1 {
			t.Errorf("it was said %d times:\n%s", n, l.log.String())
		}
		st.broken.Store(false)
		l.sleep(2 * time.Second)
		l.expect("at once afterwards", "a:UNHEALTHY b:HEALTHY")
		l.sleep(10 * time.Second)
		l.expect("a period later", "b:HEALTHY")
		if !strings.Contains(l.log.String(), "the registry can write again") {
			t.Error("the end was not said")
		}
	})
}
