package registry

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"patchbay/registry/cloudmap"
	"patchbay/registry/state"
	"patchbay/registry/store"
)

// snapshots are the requests that the SDK's own tests hold it to, by
// operation: every member of every request. They lie in the module cache.
func snapshots(t testing.TB) map[string][]byte {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/servicediscovery").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "request_snapshot", "*.request.snap"))
	if err != nil || len(files) != 30 {
		t.Fatalf("%d snapshots, %v; the SDK has one for each of the 30 operations", len(files), err)
	}
	all := map[string][]byte{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		head, body, _ := bytes.Cut(text, []byte("\n\n{"))
		_, target, ok := strings.Cut(string(head), "X-Amz-Target: "+cloudmap.TargetPrefix+".")
		name := strings.TrimSuffix(filepath.Base(f), ".request.snap")
		if !ok || strings.TrimSpace(target) != name {
			t.Fatalf("%s has the target %q", f, target)
		}
		all[name] = append([]byte("{"), body...)
	}
	return all
}

// TestTheSDKsOwnRequests: each is dispatched and decoded with no member left
// over, and what was decoded says what the request said.
func TestTheSDKsOwnRequests(t *testing.T) {
	s := New(&store.Memory{}, Options{})
	for name, body := range snapshots(t) {
		op, known := s.http.Operations[name]
		if !known {
			t.Errorf("%s is not answered", name)
			continue
		}
		in := op.Empty()
		dec := json.NewDecoder(bytes.NewReader(body))
		if dec.DisallowUnknownFields(); dec.Decode(in) != nil {
			t.Errorf("%s: %s has a member that is not understood", name, body)
		}
		again, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var want, got map[string]any
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &got); err != nil {
			t.Fatal(err)
		}
		for k, v := range want {
			if !covered(v, got[k]) {
				t.Errorf("%s: %s was understood as %v, not %v", name, k, got[k], v)
			}
		}
		_, err = s.http.Call("POST", name, body)
		if e, is := err.(*cloudmap.Error); err != nil && (!is || e.Status != 400 || e.Type == "UnknownOperationException" || e.Type == "SerializationException") { //nolint:errorlint // it is not wrapped
			t.Errorf("%s: %v", name, err)
		}
	}
}

// covered reports whether what was said is in what was understood, which may
// name absent members besides.
func covered(said, understood any) bool {
	switch s := said.(type) {
	case map[string]any:
		u, ok := understood.(map[string]any)
		for k, v := range s {
			ok = ok && covered(v, u[k])
		}
		return ok
	case []any:
		u, ok := understood.([]any)
		ok = ok && len(u) == len(s)
		for i, v := range s {
			ok = ok && covered(v, u[i])
		}
		return ok
	default:
		return reflect.DeepEqual(said, understood)
	}
}

// furnish makes a DNS namespace and a service with A records.
func furnish(t testing.TB, s *Server) (ns, svc string) {
	t.Helper()
	var v *state.View
	for _, r := range []string{`CreatePrivateDnsNamespace{"Name":"demo","Vpc":"vpc-1"}`, `CreateService{"NamespaceId":"NS","Name":"backend","DnsConfig":{"DnsRecords":[{"Type":"A","TTL":9}]}}`} {
		name, body, _ := strings.Cut(r, "{")
		if _, err := s.http.Call("POST", name, []byte("{"+strings.ReplaceAll(body, "NS", ns))); err != nil {
			t.Fatal(err)
		}
		if _, err := s.carryOut(); err != nil {
			t.Fatal(err)
		}
		if err := s.db.View(func(view *state.View) { v = view }); err != nil {
			t.Fatal(err)
		}
		for n := range v.Namespaces().All() {
			ns = n.ID
		}
		for n := range v.Services().All() {
			svc = n.ID
		}
	}
	return ns, svc
}

// FuzzRequests: no body, of any operation, makes the server panic or answer
// with anything but an answer or an error of the API.
func FuzzRequests(f *testing.F) {
	for name, body := range snapshots(f) {
		f.Add(name, body)
	}
	f.Add("CreateService", []byte(`{"Name":"a","DnsConfig":{"DnsRecords":[{}]},"HealthCheckConfig":{},"Tags":[{"Key":"a"}]}`))
	f.Add("RegisterInstance", []byte(`{"ServiceId":"arn:aws:servicediscovery:::service/","InstanceId":"a","Attributes":{"PATCHBAY_LEASE_SECONDS":"1"}}`))
	f.Add("ListOperations", []byte(`{"NextToken":"\n","Filters":[{"Name":"UPDATE_DATE","Values":["NaN","1"]}]}`))
	f.Add("UpdateService", []byte(`{"Id":"SVC","Service":{"DnsConfig":{"DnsRecords":[{"Type":"A","TTL":1}]}}}`))
	f.Add("RegisterInstance", []byte(`{"ServiceId":"SVC","InstanceId":"a","Attributes":{"AWS_INSTANCE_IPV4":"10.0.0.1"}}`))
	f.Add("DeleteNamespace", []byte(`{"Id":"NS"}`))
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		s := New(&store.Memory{}, Options{})
		ns, svc := furnish(t, s)
		body = bytes.ReplaceAll(bytes.ReplaceAll(body, []byte("SVC"), []byte(svc)), []byte("NS"), []byte(ns))
		for range 2 { // the second time it may be there
			out, err := s.http.Call("POST", name, body)
			if err == nil {
				if _, err = json.Marshal(out); err != nil {
					t.Fatalf("%s: the answer can't be encoded: %v", name, err)
				}
			} else if e, is := err.(*cloudmap.Error); !is || e.Status < 400 || e.Status >= 500 { //nolint:errorlint // it is not wrapped
				t.Fatalf("%s: %v", name, err)
			}
			for more := true; more; {
				if more, err = s.carryOut(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
