package push

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"patchbay/bench"
	"patchbay/bench/model"
)

// TestMain lets this test's binary be the processes under test.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "push-server" && os.Args[1] != "push-clients" {
		os.Exit(m.Run())
	}
	fs := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	engine, address, certs, first := fs.String("engine", "", ""), fs.String("address", "", ""), fs.String("certs", "", ""), fs.Int("first", 0, "")
	streams, services, endpoints := fs.Int("streams", 0, ""), fs.Int("services", 0, ""), fs.Int("endpoints", 0, "")
	fs.Parse(os.Args[2:])
	ctx, err := context.Background(), error(nil)
	if os.Args[1] == "push-server" {
		err = Serve(ctx, *engine, *streams, *services, *endpoints, *certs, os.Stdin, os.Stdout)
	} else {
		err = model.Connect(ctx, model.Shape{Streams: *streams, Services: *services, Endpoints: *endpoints}, *first, *address, *certs, os.Stdin, os.Stdout)
	}
	if err != nil {
		io.WriteString(os.Stderr, err.Error())
		os.Exit(1)
	}
}

func TestCost(t *testing.T) {
	part := &bench.Part{}
	if err := Cost.Run(t.Context(), bench.Options{Quick: true, Out: io.Discard}, part); err != nil {
		t.Fatal(err)
	}
	Cost.Goals(part)
	for _, name := range []string{alone, moreServices, moreStreams} {
		if f := part.Find("one change", name, mWoken); f == nil || f.Min != 10 || f.Max != 10 {
			t.Errorf("%s: %+v were woken, not ten", name, f)
		}
	}
	if len(part.Goals) != 4 {
		t.Errorf("%d goals", len(part.Goals))
	}
}

func TestSlope(t *testing.T) {
	if got := slope([]float64{1, 2, 3}, []float64{10, 12, 14}); got != 2 {
		t.Errorf("%v", got)
	}
}

func TestEveryEngineTellsEveryClient(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{bench.Options{Quick: true, Out: io.Discard, Self: self, Dir: t.TempDir()}, &bench.Part{}}
	certs := filepath.Join(r.Dir, "certs")
	if err := os.Mkdir(certs, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := model.WriteCerts(certs, 10); err != nil {
		t.Fatal(err)
	}
	for _, engine := range []string{patchbay, withLEDS, linear, shared, perNode} {
		s := model.Shape{Streams: 10, Services: 3, Endpoints: 7}
		if engine == withLEDS {
			s.Endpoints = 500
		}
		for _, mutual := range []bool{false, true} {
			p, err := r.pair(t.Context(), engine, engine, s, mutual)
			if err != nil {
				t.Fatalf("%s: %v", engine, err)
			}
			defer p.stop()
			cold, err := p.connect(false, true)
			if err != nil {
				t.Fatalf("%s: %v", engine, err)
			}
			for range 2 * s.Services {
				c, err := p.push()
				if err != nil {
					t.Fatalf("%s: %v", engine, err)
				}
				if len(c.heard) != s.Streams || c.requests != int64(s.Streams) || c.in < 100 || c.in > cold.in/2 || c.cpu <= 0 || c.lastACK <= 0 {
					t.Errorf("%s: a change: %+v", engine, c)
				}
			}
			for kind, percent := range map[string]int{"slow": 20, "nack": 20, "": 0} {
				if engine == withLEDS && kind == "nack" {
					continue // it is disconnected, and gets assignments then
				}
				if err := p.fleet.tell(model.Order{Do: "misbehave", Kind: kind, Percent: percent}, &model.Heard{}); err != nil {
					t.Fatal(err)
				}
				if c, err := p.push(); err != nil || len(c.heard) != s.Streams*(100-percent)/100 {
					t.Errorf("%s, %q: %d heard, %v", engine, kind, len(c.heard), err)
				}
			}
			if err := p.fleet.tell(model.Order{Do: "misbehave"}, &model.Heard{}); err != nil {
				t.Fatal(err)
			}
			if err := p.disconnect(); err != nil {
				t.Fatal(err)
			}
			warm, err := p.connect(true, false)
			// Envoy keeps no versions of members: with LEDS they are sent again.
			if err != nil || engine != withLEDS && warm.in > cold.in/10 || warm.out < cold.out/2 {
				t.Errorf("%s: warm %+v, cold %+v, %v", engine, warm, cold, err)
			}
			if c, err := p.push(); err != nil || len(c.heard) != s.Streams {
				t.Errorf("%s: after the reconnect %+v, %v", engine, c, err)
			}
		}
	}
}
