package path

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"patchbay/bench"
)

// TestMain lets this test's binary be the application and the load.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "app" && os.Args[1] != "load" {
		os.Exit(m.Run())
	}
	fs := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	protocol, address := fs.String("protocol", "", ""), fs.String("address", "", "")
	rate, d, fresh := fs.Int("rate", 0, ""), fs.Duration("duration", 0, ""), fs.Bool("fresh", false, "")
	fs.Parse(os.Args[2:])
	ctx, err := context.Background(), error(nil)
	if os.Args[1] == "app" {
		err = Serve(ctx, os.Stdout)
	} else {
		err = Load(ctx, *protocol, *address, *rate, *d, *fresh, os.Stdout)
	}
	if err != nil {
		io.WriteString(os.Stderr, err.Error())
		os.Exit(1)
	}
}

func testWorld(t *testing.T) *world {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The address of a Unix socket must be short.
	dir, err := os.MkdirTemp("", "pb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	envoy := os.Getenv("PATCHBAY_ENVOY")
	if envoy == "" {
		envoy = filepath.Join(root, ".tools/bin/envoy")
	}
	w, err := newWorld(t.Context(), bench.Options{Out: io.Discard, Self: self, Dir: dir, Envoy: envoy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}

func TestEveryProtocolThroughEveryVariant(t *testing.T) {
	w := testWorld(t)
	for _, v := range []variant{direct, staticPlain, staticBoth, oursPlain, oursTLS} {
		r, err := w.open(t.Context(), v)
		if err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		for _, p := range protocols {
			l, cost, err := w.steady(t.Context(), r, call{p, p, 100, false}, 200*time.Millisecond)
			if err != nil {
				t.Fatalf("%s, %s: %v", v.name, p, err)
			}
			if l.Sent != len(poisson(100, 200*time.Millisecond).due) || l.Failed != 0 || l.P50 <= 0 || l.P999 < l.P50 || cost < 0 {
				t.Errorf("%s, %s: %+v", v.name, p, l)
			}
			if err := r.verify(p, v); err != nil {
				t.Errorf("%s: %v", v.name, err)
			}
		}
		r.stop()
	}
}

func TestChangesArriveAndFailNothing(t *testing.T) {
	w := testWorld(t)
	w.Quick = true
	r, err := w.openOurs(t.Context(), oursTLS, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer r.stop()
	m, part := newMover(w.control, r), &bench.Part{}
	for _, what := range []string{churn, rotation} {
		if err := w.disturbed(t.Context(), part, r, m, call{newConnections, "tcp", 50, true}, what); err != nil {
			t.Fatal(err)
		}
		if f := part.Find(newConnections, what, mFailed); f.Max != 0 {
			t.Errorf("%s: %v requests failed", what, f.Max)
		}
		if f := part.Find(newConnections, what, "changes made"); f.Max < 5 {
			t.Errorf("%s: %v changes", what, f.Max)
		}
	}
}

func TestAFailureIsCounted(t *testing.T) {
	nobody, err := freePort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range protocols {
		var out bytes.Buffer
		if err := Load(t.Context(), p, local(nobody), 200, 100*time.Millisecond, false, &out); err != nil {
			t.Fatal(err)
		}
		var l loaded
		if err := json.Unmarshal(out.Bytes(), &l); err != nil || l.Sent == 0 || l.Failed != l.Sent || len(l.Errors) == 0 {
			t.Errorf("%s: %+v, %v", p, l, err)
		}
	}
}

func TestWhatTheToolsPrint(t *testing.T) {
	for name, c := range map[string]struct {
		l    lines
		text string
		want string // the number of requests, or part of the error
	}{
		"wrk":            {wrkLines, "  21045 requests in 1.10s, 23.1MB read\n", "21045"},
		"wrk, statuses":  {wrkLines, "  21045 requests in 1.10s, 23.1MB read\n  Non-2xx or 3xx responses: 3\n", "requests failed"},
		"wrk, sockets":   {wrkLines, "  21045 requests in 1.10s, 23.1MB read\n  Socket errors: connect 0, read 7, write 0, timeout 0\n", "requests failed"},
		"h2load":         {h2loadLines, "requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout\ntraffic: 1MB (1) total, 1KB (1) headers (space savings 1%), 100KB (102400) data\n", "100"},
		"h2load, bodies": {h2loadLines, "requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout\ntraffic: 1MB (1) total, 1KB (1) headers (space savings 1%), 0KB (500) data\n", "lack their bodies"},
		"h2load, errors": {h2loadLines, "requests: 100 total, 100 started, 100 done, 90 succeeded, 10 failed, 10 errored, 0 timeout\n", "requests failed"},
		"nothing":        {wrkLines, "unable to connect", "no number of requests"},
	} {
		n, err := c.l.read("a tool", []byte(c.text))
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			b, _ := json.Marshal(n)
			got = string(b)
		}
		if !bytes.Contains([]byte(got), []byte(c.want)) {
			t.Errorf("%s: %s", name, got)
		}
	}
}
