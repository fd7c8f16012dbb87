package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/audit"
	"patchbay/controlplane"
	"patchbay/pki/secret"
	"patchbay/xds/bootstrap"
	"patchbay/xds/csds"
)

// keys are the private keys of a mesh, each as DER and as the secret number in
// it: of its leaves, of a node, of the control channel.
func (p *plane) keys(m *member) (out [][]byte) {
	p.t.Helper()
	take := func(text []byte) {
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if strings.Contains(block.Type, "PRIVATE KEY") {
				// The last bytes of PKCS #8 are public: take the secret in the middle.
				out = append(out, block.Bytes, block.Bytes[36:60])
			}
		}
	}
	for _, dir := range []string{p.cfg.Data, m.state} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || d.Type()&os.ModeType != 0 {
				return err
			}
			b, err := os.ReadFile(path)
			take(b)
			return err
		})
		if err != nil {
			p.t.Fatal(err)
		}
	}
	e, err := secret.NewFile(secret.FileOptions{Dir: filepath.Join(p.cfg.Data, "secrets")}).Load(p.t.Context(), "leaf/demo/backend")
	var leaf struct {
		Key string `json:"privateKeyPem"`
	}
	if err == nil {
		err = json.Unmarshal(e.Value, &leaf)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	take([]byte(leaf.Key))
	if len(out) < 6 {
		p.t.Fatalf("%d keys found: the test looks in the wrong place", len(out))
	}
	return out
}

// secrets are all that a mesh has, in words.
func (p *plane) secrets(all ...*member) map[string][]byte {
	p.t.Helper()
	token, err := controlplane.AdminToken(p.cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	out := map[string][]byte{"the admin token": []byte(token), "a caller's header or query": []byte(secretWord)}
	for what, file := range map[string]string{
		"the key of the secret store": filepath.Join(p.cfg.Data, "secrets.key"), "the provisioner's password": p.cfg.Issuers["default"].StepCA.PasswordFile,
	} {
		b, err := os.ReadFile(file)
		if b = bytes.TrimSpace(b); err != nil || len(b) < 8 {
			p.t.Fatalf("%s: %v, %d bytes", what, err, len(b))
		}
		out[what] = b
	}
	for _, m := range all {
		for i, key := range p.keys(m) {
			out[fmt.Sprintf("private key %d, of %s", i, m.state)] = key
		}
	}
	return out
}

// flat joins the lines of PEM, also where they are within a string of JSON.
var flat = strings.NewReplacer("\\n", "", "\n", "", "\r", "")

// shown names the secrets that are in a text: as they are, in hexadecimal, in
// base64 and PEM, and within base64 and base64 in base64.
func shown(secrets map[string][]byte, text []byte) (found []string) {
	once := decoded(text)
	var texts []string
	for _, t := range [][]byte{text, once, decoded(once)} {
		texts = append(texts, string(t), flat.Replace(string(t)))
	}
	for what, word := range secrets {
		forms := []string{string(word), hex.EncodeToString(word), base64.RawStdEncoding.EncodeToString(word), base64.RawURLEncoding.EncodeToString(word)}
		if slices.ContainsFunc(texts, func(t string) bool {
			return slices.ContainsFunc(forms, func(f string) bool { return strings.Contains(t, f) })
		}) {
			found = append(found, what)
		}
	}
	return found
}

// TestShown: the search finds what it looks for.
func TestShown(t *testing.T) {
	key := bytes.Repeat([]byte("0123456789-"), 12)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	in64 := base64.StdEncoding.EncodeToString(text)
	for how, v := range map[string]any{
		"plain": string(key), "hex": hex.EncodeToString(key), "PEM": string(text), "base64": in64, "twice": base64.StdEncoding.EncodeToString([]byte(`"` + in64 + `"`)),
	} {
		b, err := json.Marshal(map[string]any{"a": v})
		if err != nil {
			t.Fatal(err)
		}
		if len(shown(map[string][]byte{"whole": key, "middle": key[36:60]}, b)) != 2 {
			t.Errorf("%s is not found", how)
		}
	}
	if found := shown(map[string][]byte{"a": key}, []byte(`{"a": "b"}`)); len(found) > 0 {
		t.Errorf("%v is found where nothing is", found)
	}
}

// questions are what is asked under GET /api/v1/NAME; a name without a row here
// has nothing to say without one.
var questions = map[string]string{
	"service": "name=backend.demo", "task": "node=demo/backend/b1", "xds": "node=demo/backend/b1", "diff": "node=demo/backend/b1",
	"policy": "service=backend.demo&node=demo/frontend/f1",
}

// noSecretIsShown asks the admin interface for everything that it has, and looks
// for every secret of the mesh in the answers, in what was said before, in the
// logs and in the audit log.
func (p *plane) noSecretIsShown(front, back *member, alias uint16, said map[string][]byte) {
	t := p.t
	t.Helper()
	read := func(method, path, body string, lasts time.Duration) {
		said[method+" "+path] = p.reads(method, path, body, lasts)
	}
	const most = 20 * time.Second
	secrets := p.secrets(front, back)
	for _, part := range p.has(http.MethodGet) {
		read(http.MethodGet, "/api/v1/"+part+"?"+questions[part], "", most)
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/"} {
		read(http.MethodGet, path, "", most)
	}
	address := strings.Split(string(said["GET /api/v1/service?name=backend.demo"]), `"address": "`)
	if len(address) != 2 {
		t.Fatalf("the service has no endpoint: %s", said["GET /api/v1/service?name=backend.demo"])
	}
	endpoint, _, _ := strings.Cut(address[1], `"`)
	read(http.MethodGet, "/api/v1/handshake?node=demo/frontend/f1&service=backend.demo&address="+endpoint, "", most)
	calls := make(chan struct{})
	stop, cancel := context.WithCancel(t.Context())
	go func() { // what passes while it is looked at
		defer close(calls)
		for stop.Err() == nil {
			p.callsWithSecrets(stop, front, alias)
		}
	}()
	read(http.MethodPost, "/api/v1/tap?name=frontend&headers=true&for=1s", "", most)
	read(http.MethodPost, "/api/v1/tap?name=backend.demo&headers=true&for=1s", "", most)
	read(http.MethodPost, "/api/v1/fault?kind=delay&service=backend.demo&delay=1ms&percent=100&for=200ms", "", most)
	cancel()
	<-calls
	watched := make(chan []byte)
	go func() {
		watched <- p.reads(http.MethodGet, "/api/v1/xds/watch?node=demo/backend/b1", "", 2*time.Second)
	}()
	read(http.MethodGet, "/events", "", time.Second)
	read(http.MethodPost, "/api/v1/rotate?service=backend.demo", "", most)
	said["GET /api/v1/xds/watch"] = <-watched
	read(http.MethodPost, "/api/v1/call?node=demo/frontend/f1&url=http://"+fmt.Sprintf("backend.demo:%d/", alias), "", most)
	read(http.MethodPost, "/api/v1/shift?service=backend.demo", "", most)
	read(http.MethodPost, "/api/v1/diff", `{"services": []}`, most)
	read(http.MethodPost, strings.TrimPrefix(csds.Paths[1], "POST "), "{}", most)
	for _, part := range p.has(http.MethodPost) {
		if !anyBegins(said, "POST /api/v1/"+part) {
			t.Errorf("POST /api/v1/%s was not asked: add it here", part)
		}
	}
	said["logs"] = []byte(front.log.String() + back.log.String())
	for _, file := range []string{p.log, audit.File(p.cfg.Data)} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		said[filepath.Base(file)] = b
	}
	for what, word := range p.secrets(front, back) { // one was rotated
		secrets[what+", at the end"] = word
	}
	for where, b := range said {
		if found := shown(secrets, b); len(found) > 0 {
			t.Errorf("%s shows %v", where, found)
		}
	}
	for where, must := range map[string]string{ // else nothing was looked at
		"GET /api/v1/task?node=demo/backend/b1": "leaf/backend.demo", "GET /api/v1/xds?node=demo/backend/b1": "leaf/backend.demo", "GET /metrics": "patchbay_leaves",
		"POST /api/v1/tap?name=backend.demo&headers=true&for=1s": `"authorization":"[redacted]"`, "POST /api/v1/tap?name=frontend&headers=true&for=1s": `"path":"/a/b"`,
		"GET /events": "data: ", "GET /api/v1/xds/watch": "data: ", "GET /": "<html", "audit.log": "POST /api/v1/tap", "logs": "joined",
	} {
		if !bytes.Contains(said[where], []byte(must)) {
			t.Errorf("%s lacks %s: %.500s", where, must, said[where])
		}
	}
}

func anyBegins(said map[string][]byte, with string) bool {
	for where := range said {
		if strings.HasPrefix(where, with+"?") || where == with {
			return true
		}
	}
	return false
}

// reads is an answer of the admin interface to somebody with its token, or what
// has come of it in that time.
func (p *plane) reads(method, path, body string, lasts time.Duration) []byte {
	ctx, cancel := context.WithTimeout(p.t.Context(), lasts)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.cfg.Admin.Listen+path, strings.NewReader(body))
	if err != nil {
		p.t.Error(err)
		return nil
	}
	token, err := controlplane.AdminToken(p.cfg)
	if err != nil {
		p.t.Error(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Errorf("%s %s: %v", method, path, err)
		return nil
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		p.t.Errorf("%s %s: %v", method, path, err)
	}
	return b
}

// callsWithSecrets is a call of an application whose headers and query are
// nobody's affair.
func (p *plane) callsWithSecrets(ctx context.Context, front *member, alias uint16) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/a/b?token=%s", front.lookup("backend.demo"), alias, secretWord), nil)
	if err != nil {
		p.t.Error(err)
		return
	}
	for _, name := range append([]string{"Referer", "X-Of-Nobody"}, bootstrap.TapSecrets...) {
		req.Header.Set(name, secretWord)
	}
	req.Header.Set("Accept", "text/plain")
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}
