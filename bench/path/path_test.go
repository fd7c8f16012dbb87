package path

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"patchbay/bench"
	"patchbay/bench/load"
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
		err = load.Serve(ctx, os.Stdout)
	} else {
		err = load.Open(ctx, *protocol, *address, *rate, *d, *fresh, os.Stdout)
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
		for _, p := range load.Protocols {
			l, cost, err := w.steady(t.Context(), r, call{p, p, 100, false}, 200*time.Millisecond)
			if err != nil {
				t.Fatalf("%s, %s: %v", v.name, p, err)
			}
			if l.Sent < 10 || l.Failed != 0 || l.P50 <= 0 || l.P999 < l.P50 || cost < 0 {
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
