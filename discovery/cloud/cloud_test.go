package cloud

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/smithy-go"

	"patchbay/internal/namespaces"
)

// answering serves a fixed answer for each operation and records what came.
type answering struct {
	mu     sync.Mutex
	got    []string
	bodies map[string][]string // by operation; the last one repeats
}

func (a *answering) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, op+" "+r.Host+" "+string(body))
	list := a.bodies[op]
	if len(list) == 0 {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"RequestLimitExceeded","Message":"slow down"}`)
		return
	}
	_, _ = io.WriteString(w, list[0])
	if len(list) > 1 {
		a.bodies[op] = list[1:]
	}
}

func calls(t *testing.T, bodies map[string][]string) (*Calls, *answering, *[]string) {
	t.Helper()
	a := &answering{bodies: bodies}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	cfg := aws.Config{Region: "eu-west-1", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "b"}, nil
	})}
	var failed []string
	c := New(NewClient(cfg, ClientOptions{Endpoint: srv.URL}), Options{Budget: Unlimited, Deadline: 5 * time.Second, Concurrent: 4,
		Called: func(op, result string) {
			if result != OK {
				failed = append(failed, op+" "+result)
			}
		}})
	return c, a, &failed
}

var prod = namespaces.Namespace{ID: "ns-1", HTTPName: "prod"}

func TestTheHostPrefixIsLeftOutWhereItLeadsNowhere(t *testing.T) {
	c, a, _ := calls(t, map[string][]string{
		"DiscoverInstances":         {`{"InstancesRevision":7,"Instances":[{"InstanceId":"b","HealthStatus":"HEALTHY","Attributes":{"AWS_INSTANCE_IPV4":"10.0.0.2","AWS_INSTANCE_PORT":"80"}},{"InstanceId":"a","Attributes":{"AWS_INSTANCE_PORT":"80"}}]}`},
		"DiscoverInstancesRevision": {`{"InstancesRevision":7}`},
	})
	if rev, err := c.Revision(t.Context(), prod, "backend"); err != nil || rev != 7 {
		t.Fatalf("%d, %v", rev, err)
	}
	ans, err := c.Instances(t.Context(), prod, "backend")
	if err != nil || ans.Revision != 7 || len(ans.Instances) != 1 || ans.Malformed["a"] != "no_address" {
		t.Fatalf("%+v, %v", ans, err)
	}
	for _, got := range a.got {
		if strings.Contains(got, "data-") {
			t.Errorf("called %s", got)
		}
	}
	if last := a.got[1]; !strings.Contains(last, `"MaxResults":1000`) || !strings.Contains(last, `"HealthStatus":"ALL"`) {
		t.Errorf("MaxResults and HealthStatus must be explicit: %s", last)
	}
}

func TestListingsAreCompleteOrFail(t *testing.T) {
	c, _, _ := calls(t, map[string][]string{
		"ListServices": {
			`{"Services":[{"Id":"srv-1","Name":"one","Description":"managed by patchbay","HealthCheckCustomConfig":{"FailureThreshold":1}}],"NextToken":"2"}`,
			`{"Services":[],"NextToken":"3"}`, // a page may be empty
			`{"Services":[{"Id":"srv-2","Name":"two"}]}`,
		},
	})
	got, err := c.Services(t.Context(), prod)
	if err != nil || len(got) != 2 || !got[0].Managed || got[1].Managed || !got[0].Checked || got[1].Checked {
		t.Fatalf("%+v, %v", got, err)
	}
	c, _, failed := calls(t, map[string][]string{"ListServices": {`{"Services":[{"Id":"srv-1","Name":"one"}],"NextToken":"2"}`, `{"Services":`}})
	if got, err := c.Services(t.Context(), prod); err == nil || got != nil || len(*failed) != 1 {
		t.Errorf("half a listing: %v, %v, %v", got, err, *failed)
	}
	_, err = c.ServiceAttributes(t.Context(), "srv-1")
	var limit smithy.APIError
	if !errors.As(err, &limit) || !Throttled(err) || (*failed)[1] != "GetServiceAttributes RequestLimitExceeded" {
		t.Errorf("%v, %v", err, *failed)
	}
}

// hanging never answers.
type hanging struct{ API }

func (hanging) DiscoverInstancesRevision(ctx context.Context, _ *sd.DiscoverInstancesRevisionInput, _ ...func(*sd.Options)) (*sd.DiscoverInstancesRevisionOutput, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestEveryCallEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failed []string
		c := New(hanging{}, Options{Deadline: 2 * time.Second, Concurrent: 1, Called: func(op, code string) { failed = append(failed, op+" "+code) }})
		start := time.Now()
		if _, err := c.Revision(t.Context(), prod, "backend"); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 2*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		if len(failed) != 1 || failed[0] != "DiscoverInstancesRevision timeout" {
			t.Errorf("counted %v", failed)
		}
	})
}

func TestThrottlingHalvesARateThatRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(100, 0, 1)
		slow := &smithy.GenericAPIError{Code: "ThrottlingException"}
		b.told(errors.New("connection refused"))
		if b.lim.Limit() != 100 {
			t.Error("any error slows down")
		}
		for range 10 {
			b.told(slow) // one burst, one lesson
		}
		if got := b.lim.Limit(); got != 50 {
			t.Errorf("the rate is %v", got)
		}
		time.Sleep(2 * time.Second)
		b.told(slow)
		if got := b.lim.Limit(); got != 25 {
			t.Errorf("then %v", got)
		}
		time.Sleep(30 * time.Second)
		if err := b.wait(t.Context()); err != nil || b.lim.Limit() != 40 {
			t.Errorf("after 30 s %v, %v", b.lim.Limit(), err)
		}
		time.Sleep(time.Hour)
		if err := b.wait(t.Context()); err != nil || b.lim.Limit() != 100 {
			t.Errorf("at last %v, %v", b.lim.Limit(), err)
		}
	})
}

// TestBursts: what was saved up is taken at once, also where there is less than
// a call a second.
func TestBursts(t *testing.T) {
	c := New(nil, Options{})
	for name, x := range map[string]struct {
		b    *bucket
		want int
	}{"ListServices": {c.lists, 10}, "ListNamespaces": {c.names, 5}, "GetServiceAttributes": {c.attributes, 100}} {
		if got := x.b.lim.Burst(); got != x.want {
			t.Errorf("%s: %d; want %d", name, got, x.want)
		}
	}
	if b := newBucket(0.1, 0, 5); b.lim.Burst() != 1 {
		t.Errorf("a tenth of a call: %d", b.lim.Burst())
	}
}
