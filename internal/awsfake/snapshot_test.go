package awsfake_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"patchbay/internal/awsfake/pca"
	"patchbay/internal/awsfake/secrets"
	"patchbay/internal/awsfake/wire"
)

// The SDK's modules come with every request as their client writes it and
// every answer as it reads it. The stand-ins must understand them to the last
// member, but for the operations listed here, which they do not have.
var modules = []struct {
	path    string
	api     wire.Service
	without []string
}{
	{"acmpca", pca.New(pca.Options{}).API(), []string{"CreateCertificateAuthorityAuditReport", "DescribeCertificateAuthorityAuditReport"}},
	{"secretsmanager", secrets.New(secrets.Options{}).API(), []string{
		"BatchGetSecretValue", "CancelRotateSecret", "DeleteResourcePolicy", "GetRandomPassword", "GetResourcePolicy", "PutResourcePolicy",
		"RemoveRegionsFromReplication", "ReplicateSecretToRegions", "RotateSecret", "StopReplicationToReplica", "ValidateResourcePolicy",
	}},
}

func moduleDir(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/"+name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// snapshot is a file: a first line, headers, and a body after an empty line.
func snapshot(t *testing.T, file string) (first string, header http.Header, body []byte) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := bytes.Cut(text, []byte("\n\n"))
	if strings.HasPrefix(string(head), "POST") { // requests have an empty line after the first one
		first, text, _ := bytes.Cut(text, []byte("\n\n"))
		head, body, ok = bytes.Cut(text, []byte("\n\n"))
		head = append(append(first, '\n'), head...)
	}
	if !ok {
		t.Fatalf("%s: no body", file)
	}
	first, rest, _ := strings.Cut(string(head), "\n")
	header = http.Header{}
	for line := range strings.Lines(rest) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		header.Add(name, value)
	}
	return first, header, bytes.TrimSpace(body)
}

func sameJSON(t *testing.T, what string, got, want []byte) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

func TestSDKSnapshots(t *testing.T) {
	for _, m := range modules {
		dir := moduleDir(t, m.path)
		t.Run(m.path, func(t *testing.T) {
			known := 0
			for name, op := range m.api.Operations {
				known++
				_, header, body := snapshot(t, filepath.Join(dir, "request_snapshot", name+".request.snap"))
				if got := header.Get("X-Amz-Target"); got != m.api.Target+name {
					t.Errorf("%s: the SDK's target is %q", name, got)
				}
				in, err := op.Input(body, true)
				if err != nil {
					t.Errorf("%s: request: %v", name, err)
					continue
				}
				again, err := json.Marshal(in)
				if err != nil {
					t.Fatal(err)
				}
				sameJSON(t, name+" request", again, body)
				_, _, body = snapshot(t, filepath.Join(dir, "response_snapshot", name+".response.snap"))
				out, err := op.Output(body)
				if err != nil {
					t.Errorf("%s: answer: %v", name, err)
					continue
				}
				if again, err = json.Marshal(out); err != nil {
					t.Fatal(err)
				}
				sameJSON(t, name+" answer", again, body)
			}
			files, err := filepath.Glob(filepath.Join(dir, "request_snapshot", "*.request.snap"))
			if err != nil || known+len(m.without) != len(files) || known == 0 {
				t.Errorf("%d operations and %d left out; the SDK has %d (%v)", known, len(m.without), len(files), err)
			}
			for _, file := range files {
				name := strings.TrimSuffix(filepath.Base(file), ".request.snap")
				if _, ok := m.api.Operations[name]; ok == slices.Contains(m.without, name) {
					t.Errorf("%s: operation %v, and listed as left out", name, ok)
				}
			}
			errorSnapshots(t, m.api, dir)
		})
	}
}

// errorSnapshots holds our form of every modelled error against the SDK's.
func errorSnapshots(t *testing.T, api wire.Service, dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "response_snapshot", "*.error.snap"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d error snapshots, %v", len(files), err)
	}
	for _, file := range files {
		code := strings.TrimSuffix(filepath.Base(file), ".error.snap")
		status, header, want := snapshot(t, file)
		w := httptest.NewRecorder()
		wire.Answer(w, api.Text, nil, &wire.Error{Code: code, Text: "__Message__", Status: map[bool]int{true: 500, false: 0}[status == "500"]})
		sameJSON(t, code, w.Body.Bytes(), want)
		if got := w.Header().Get("Content-Type"); got != header.Get("Content-Type") {
			t.Errorf("%s: content type %q", code, got)
		}
		if http.StatusText(w.Code) == "" || status != "400" && status != "500" || (status == "400") != (w.Code == 400) {
			t.Errorf("%s: status %d; want %s", code, w.Code, status)
		}
	}
}
