package registry

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
)

func TestOperationsTakeTheirTime(t *testing.T) {
	over(t, Options{OperationDelay: 4 * time.Second}, func(t *testing.T, l *lab) {
		op := must[*sd.CreateHttpNamespaceOutput](t)(l.CreateHttpNamespace(t.Context(), &sd.CreateHttpNamespaceInput{Name: str("demo")}))
		_, err := l.CreateHttpNamespace(t.Context(), &sd.CreateHttpNamespaceInput{Name: str("demo")})
		failsWith(t, "the same name meanwhile", err, "DuplicateRequest", *op.OperationId)
		began := time.Now()
		for _, want := range []types.OperationStatus{types.OperationStatusSubmitted, types.OperationStatusPending, types.OperationStatusSuccess} {
			o := l.outcome(op.OperationId)
			if o.Status != want || o.Type != types.OperationTypeCreateNamespace || o.CreateDate.After(*o.UpdateDate) || aws.ToString(o.OwnerAccount) != "000000000000" {
				t.Errorf("after %s: %+v", time.Since(began), o)
			}
			names := must[*sd.ListNamespacesOutput](t)(l.ListNamespaces(t.Context(), &sd.ListNamespacesInput{})).Namespaces
			if (len(names) == 1) != (want == types.OperationStatusSuccess) {
				t.Errorf("%s, and there are %d namespaces", want, len(names))
			}
			l.sleep(2*time.Second + time.Millisecond)
		}
		ns := l.outcome(op.OperationId).Targets["NAMESPACE"]
		svc := l.service(ns, "backend")
		reg := l.register(svc, "a")
		_, err = l.RegisterInstance(t.Context(), &sd.RegisterInstanceInput{ServiceId: &svc, InstanceId: str("a"), Attributes: map[string]string{"x": "y"}})
		failsWith(t, "the same instance meanwhile", err, "DuplicateRequest", *reg.Id)
		_, err = l.DeregisterInstance(t.Context(), &sd.DeregisterInstanceInput{ServiceId: &svc, InstanceId: str("a")})
		failsWith(t, "its removal meanwhile", err, "DuplicateRequest", *reg.Id)
		must[*sd.DeleteServiceOutput](t)(l.DeleteService(t.Context(), &sd.DeleteServiceInput{Id: &svc}))
		l.restart() // what was accepted is carried out by the next process
		l.sleep(5 * time.Second)
		if o := l.outcome(reg.Id); o.Status != types.OperationStatusFail || aws.ToString(o.ErrorCode) != "SERVICE_NOT_FOUND" || !strings.Contains(aws.ToString(o.ErrorMessage), svc) {
			t.Errorf("registered with a service that is gone: %+v", o)
		}
	})
}

func TestOperationsAreForgotten(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		old := l.register(l.service(l.namespace("demo"), "backend"), "a")
		l.sleep(keepFor - time.Second)
		l.outcome(old.Id)
		l.sleep(time.Minute)
		_, err := l.GetOperation(t.Context(), &sd.GetOperationInput{OperationId: old.Id})
		failsWith(t, "after its time", err, "OperationNotFound")
		if n := l.rows("operations"); n != 0 {
			t.Errorf("%d operations in the store", n)
		}
		l.expect("its instance", "a:HEALTHY")
	})
}

// rows is how many records a table of the store has.
func (l *lab) rows(table string) (n int) {
	l.t.Helper()
	err := l.store.Load(func(name, _ string, _ []byte) error {
		if name == table {
			n++
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

func TestOperationsDoNotGrowForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &counting{}
		l := &lab{t: t, open: m.open}
		l.start()
		defer func() { l.stop() }()
		svc := l.service(l.namespace("demo"), "backend")
		in := `{"ServiceId":"` + svc + `","InstanceId":"a","Attributes":{"n":"%d"}}`
		for i := range keepMost + 500 {
			if _, err := l.server.http.Call("POST", "RegisterInstance", fmt.Appendf(nil, in, i)); err != nil {
				t.Fatal(err)
			}
			l.done()
		}
		if n := l.rows("operations"); n < keepMost || n > keepMost+2*most {
			t.Errorf("%d operations in the store", n)
		}
	})
}

func TestTheSameRequestAgain(t *testing.T) {
	over(t, Options{}, func(t *testing.T, l *lab) {
		create := &sd.CreateHttpNamespaceInput{Name: str("demo"), CreatorRequestId: str("token")}
		first := must[*sd.CreateHttpNamespaceOutput](t)(l.CreateHttpNamespace(t.Context(), create))
		l.done()
		ns := l.outcome(first.OperationId).Targets["NAMESPACE"]
		svc := l.service(ns, "backend", func(in *sd.CreateServiceInput) { in.CreatorRequestId = str("s") })
		reg := &sd.RegisterInstanceInput{ServiceId: &svc, InstanceId: str("a"), CreatorRequestId: str("token"), Attributes: map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.1", "v": "1"}}
		registered := must[*sd.RegisterInstanceOutput](t)(l.RegisterInstance(t.Context(), reg))
		l.done()
		_, revision := l.seen("demo", "backend")
		for _, restarted := range []bool{false, true} {
			if restarted {
				l.restart()
			}
			if again := must[*sd.CreateHttpNamespaceOutput](t)(l.CreateHttpNamespace(t.Context(), create)); *again.OperationId != *first.OperationId {
				t.Errorf("namespace: operation %s, then %s", *first.OperationId, *again.OperationId)
			}
			if again := l.service(ns, "backend", func(in *sd.CreateServiceInput) { in.CreatorRequestId = str("s") }); again != svc {
				t.Errorf("service: %s, then %s", svc, again)
			}
			if again := must[*sd.RegisterInstanceOutput](t)(l.RegisterInstance(t.Context(), reg)); *again.OperationId != *registered.OperationId {
				t.Errorf("instance: operation %s, then %s", *registered.OperationId, *again.OperationId)
			}
			l.done()
			if _, r := l.seen("demo", "backend"); r != revision {
				t.Errorf("revision %d, then %d", revision, r)
			}
		}
		other := *reg
		other.InstanceId = str("b")
		_, err := l.RegisterInstance(t.Context(), &other)
		failsWith(t, "a token of another request", err, "InvalidInput", "token", *registered.OperationId)
		_, err = l.CreateHttpNamespace(t.Context(), &sd.CreateHttpNamespaceInput{Name: str("demo"), CreatorRequestId: str("other")})
		failsWith(t, "the name with another token", err, "NamespaceAlreadyExists")
	})
}
