package join_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"patchbay/agentapi"
	"patchbay/identity"
	"patchbay/identity/join"
	"patchbay/identity/registered"
)

// TestStreamsFollowTheRegistration: what an operator changes reaches streams
// that are open, within seconds; a damaged file changes nothing.
func TestStreamsFollowTheRegistration(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *rig) error
		code   codes.Code // DeadlineExceeded: the stream goes on
		text   string
	}{
		"nothing":            {func(*rig) error { return nil }, codes.DeadlineExceeded, ""},
		"withdrawn":          {func(r *rig) error { _, err := identity.Withdraw(r.data, "demo", "backend", ""); return err }, codes.PermissionDenied, "workload demo/backend is not registered"},
		"may offer less":     {func(r *rig) error { q := r.request("backend"); q.Workload.DiscoveryNames = nil; r.token(q); return nil }, codes.Unavailable, "connect again"},
		"damaged":            {func(r *rig) error { return os.WriteFile(r.registration("backend"), []byte("{"), 0o600) }, codes.DeadlineExceeded, ""},
		"directory is gone":  {func(r *rig) error { return os.Rename(registered.Dir(r.data), r.base+"/away") }, codes.DeadlineExceeded, ""},
		"another registered": {func(r *rig) error { r.token(r.request("other")); return nil }, codes.DeadlineExceeded, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.token(r.request("backend"))
				m := r.joined("backend")
				cut := r.running(func(context.Context) error {
					_, err := r.connect(m, 16*time.Second)
					return err
				})
				time.Sleep(10 * time.Second)
				must(t, c.change(r))
				time.Sleep(7 * time.Second)
				if err := cut(); status.Code(err) != c.code || !strings.Contains(err.Error(), c.text) {
					t.Errorf("the stream ended with %v", err)
				}
			})
		})
	}
}

func (r *rig) registration(workload string) string {
	return filepath.Join(registered.Dir(r.data), workload+"@demo.json")
}

func TestRefusedProofs(t *testing.T) {
	var old string // a proof of the backend
	for name, c := range map[string]struct {
		spoil func(r *rig)
		mend  func(r *rig)
		want  string
	}{
		"expired": {
			func(r *rig) {
				d, err := join.Load(r.dir("backend"))
				must(r.t, err)
				old, err = d.Proof([]byte("csr"))
				must(r.t, err)
				time.Sleep(20 * time.Minute)
				r.set(func(e *agentapi.EnrolRequest) { e.Proof = old }, false)
			}, func(r *rig) { r.set(nil, false) },
			"the join proof is refused: it expired 1",
		},
		"reused": {
			func(r *rig) { r.set(nil, true) }, func(r *rig) { r.set(nil, false) },
			"the join proof is refused: it was used before",
		},
		"for another workload": {
			func(r *rig) { r.edit(`"workload": "backend"`, `"workload": "frontend"`) },
			func(r *rig) { r.edit(`"workload": "frontend"`, `"workload": "backend"`) },
			"it is for another workload",
		},
		"key withdrawn": {
			func(r *rig) {
				r.joined("backend") // the control plane knows the key
				must(r.t, os.RemoveAll(r.state()))
				_, err := identity.Withdraw(r.data, "demo", "backend", "")
				must(r.t, err)
				time.Sleep(2 * time.Second)
			},
			func(r *rig) { r.token(r.request("backend")) },
			"is not registered: run `patchbay token join`",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				r.token(r.request("backend"))
				c.spoil(r)
				m := r.member("backend")
				end := r.running(m.Join)
				time.Sleep(time.Minute)
				r.says("agent's log", r.agent.String(), "waiting to join the mesh", c.want)
				r.says("control plane's log", r.plane.String(), "refused on the control channel", "node=demo/", c.want)
				r.says("Failure", m.Failure(), c.want)
				if agent, plane := r.agent.count("waiting to join"), r.plane.count("refused on the control channel"); agent > 3 || plane > 3 {
					t.Errorf("told %d times by the agent, %d times by the control plane, in a minute", agent, plane)
				}
				c.mend(r)
				time.Sleep(20 * time.Second)
				if m.Failure() != "" {
					t.Errorf("not joined after it was mended: %s", m.Failure())
				}
				if err := end(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// edit changes the backend's join.json as a person would.
func (r *rig) edit(from, to string) {
	r.t.Helper()
	file := filepath.Join(r.dir("backend"), join.InfoFile)
	text, err := os.ReadFile(file)
	must(r.t, err)
	if !strings.Contains(string(text), from) {
		r.t.Fatalf("%s does not hold %s", file, from)
	}
	must(r.t, os.WriteFile(file, []byte(strings.ReplaceAll(string(text), from, to)), 0o600))
}

func TestJoinDirectoryThatIsWrong(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.token(r.request("backend"))
		r.edit(`"version": 1`, `"version": "one", "colour": 1`)
		must(t, os.WriteFile(filepath.Join(r.dir("backend"), join.KeyFile), []byte("SECRET"), 0o600))
		began := time.Now()
		err := r.member("backend").Join(t.Context())
		if err == nil || time.Since(began) > 3*time.Second {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		r.says("the error", err.Error(), "join.json", `unknown key "colour"`, "version: is a string; allowed: int", "join.key", "P-256")
		if strings.Contains(err.Error()+r.agent.String(), "SECRET") {
			t.Error("the error holds the key file's content")
		}
	})
}

func TestJoinDirectoryBeingWritten(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.token(r.request("backend"))
		whole := map[string][]byte{}
		for _, name := range []string{join.KeyFile, join.CAFile, join.InfoFile} {
			file := filepath.Join(r.dir("backend"), name)
			text, err := os.ReadFile(file)
			must(t, err)
			whole[file] = text
			must(t, os.WriteFile(file, nil, 0o600))
		}
		end := r.running(r.member("backend").Join)
		for file, text := range whole { // as `cp` does: in pieces
			time.Sleep(300 * time.Millisecond)
			must(t, os.WriteFile(file, text[:len(text)/2], 0o600))
			time.Sleep(300 * time.Millisecond)
			must(t, os.WriteFile(file, text, 0o600))
		}
		time.Sleep(5 * time.Second)
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

func TestMixOfTwoJoinDirectories(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.token(r.request("backend"))
		key := filepath.Join(r.dir("backend"), join.KeyFile)
		before, err := os.ReadFile(key)
		must(t, err)
		req := r.request("backend")
		req.NewKey = true
		r.token(req)
		must(t, os.WriteFile(key, before, 0o600))
		if _, err := join.Load(req.Out); err == nil || !strings.Contains(err.Error(), "keyId") {
			t.Errorf("loaded: %v", err)
		}
	})
}
