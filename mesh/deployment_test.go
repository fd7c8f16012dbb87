package mesh

import (
	"slices"
	"testing"
	"time"
)

func births(names ...string) (out []Birth) {
	for i, n := range names {
		out = append(out, Birth{n, time.Unix(int64(i), 0)})
	}
	return out
}

func TestDeploy(t *testing.T) {
	half := Shift{From: "blue", To: "green", Weights: []uint32{500}}
	held := half
	held.Weights = []uint32{0}
	whole := half
	whole.Weights = []uint32{50, 1000}
	whole.Step = 1
	ended := whole
	ended.Ended = "aborted"
	first := half
	first.From = ""
	for _, c := range []struct {
		name   string
		s      Shift
		there  []Birth
		shares []Share
		test   string
	}{
		{"both", half, births("blue", "green"), []Share{{"blue", 500}, {"green", 500}}, "green"},
		{"another revision gets nothing", half, births("blue", "green", "red"), []Share{{"blue", 500}, {"green", 500}}, "green"},
		{"to has no endpoint yet", half, births("blue"), []Share{{"blue", 1000}}, ""},
		{"from has no endpoint left", held, births("green"), []Share{{"green", 1000}}, "green"},
		{"neither has: the newest, not the greatest", half, births("zebra", "ape"), []Share{{"ape", 1000}}, ""},
		{"test traffic only", held, births("blue", "green"), []Share{{"blue", 1000}, {"green", 0}}, "green"},
		{"at its end", whole, births("blue", "green"), []Share{{"blue", 0}, {"green", 1000}}, ""},
		{"rolled back", ended, births("blue", "green"), []Share{{"blue", 1000}, {"green", 0}}, ""},
		{"there was none before", first, births("blue", "green"), []Share{{"green", 1000}}, ""},
	} {
		d := Deploy(c.s, c.there)
		if !slices.Equal(d.Shares, c.shares) || d.Test != c.test {
			t.Errorf("%s: %v, test %q; want %v, %q", c.name, d.Shares, d.Test, c.shares, c.test)
		}
	}
}

// A revision that is known to be dead fails no calls while another one is called
// anyway; no revision gets calls that were not meant for it.
func TestSpare(t *testing.T) {
	half := []Share{{"blue", 900}, {"green", 100}}
	for _, c := range []struct {
		name         string
		shares       []Share
		blue, green  []Health
		wantB, wantG uint32
	}{
		{"both can be called", half, []Health{Healthy}, []Health{Unknown}, 900, 100},
		{"one endpoint of each can", half, []Health{Unhealthy, Healthy}, []Health{Healthy, Unhealthy}, 900, 100},
		{"green is dead", half, []Health{Healthy}, []Health{Unhealthy, Unhealthy}, 1000, 0},
		{"blue is dead", half, []Health{Unhealthy}, []Health{Unknown}, 0, 1000},
		{"green has endpoints that nobody may call", half, []Health{Healthy}, nil, 1000, 0},
		{"both are dead", half, []Health{Unhealthy}, []Health{Unhealthy}, 900, 100},
		{"green only gets test traffic", []Share{{"blue", 1000}, {"green", 0}}, []Health{Unhealthy}, []Health{Healthy}, 1000, 0},
		{"blue has no calls any more", []Share{{"blue", 0}, {"green", 1000}}, []Health{Healthy}, []Health{Unhealthy}, 0, 1000},
	} {
		var all []Endpoint
		for _, h := range c.blue {
			all = append(all, Endpoint{Revision: "blue", Health: h})
		}
		for _, h := range c.green {
			all = append(all, Endpoint{Revision: "green", Health: h})
		}
		d := &Deployment{Shares: slices.Clone(c.shares)}
		d.Spare(all)
		if want := []Share{{"blue", c.wantB}, {"green", c.wantG}}; !slices.Equal(d.Shares, want) {
			t.Errorf("%s: %v, want %v", c.name, d.Shares, want)
		}
	}
}

func TestNewestIsByTime(t *testing.T) {
	if got := Newest([]Birth{{"9", time.Unix(1, 0)}, {"7", time.Unix(2, 0)}, {"8", time.Unix(2, 0)}}); got.Revision != "8" {
		t.Errorf("newest %v", got)
	}
}
