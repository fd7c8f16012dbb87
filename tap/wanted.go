package tap

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Directions of [Wanted].
const (
	Ingress = "ingress" // requests that come to the tasks
	Egress  = "egress"  // that go out from them
	Both    = "both"
)

const (
	// DefaultTime is how long a tap lasts.
	DefaultTime = time.Minute
	// MaxTime is how long it may: what agents allow.
	MaxTime = time.Hour
	// DefaultRate is how many requests a second of one sidecar are shown.
	DefaultRate = 100
	// MaxRate is how many may be.
	MaxRate = 1000
	// leastSample is the smallest share, in percent.
	leastSample = 0.0001
)

// Wanted is a tap that is asked for.
type Wanted struct {
	Name      string        // of a service, node, workload or task
	Sample    float64       // percent of the requests
	For       time.Duration // up to [MaxTime]
	Rate      uint32        // requests a second of each sidecar, up to [MaxRate]
	Status    string        // 503, 5xx or 400-499; empty: any
	Path      string        // how paths begin; empty: any
	Direction string        // empty: [Ingress] of a service's tasks, else [Both]
	ShowQuery bool          // paths with their query
	Headers   bool          // request headers, without secrets

	status [2]uint32 // Status, as the least and the most; 0: any
}

// Query is the form in which it is asked for.
func (w Wanted) Query() url.Values {
	return url.Values{
		"name": {w.Name}, "sample": {strconv.FormatFloat(w.Sample, 'f', -1, 64)}, "for": {w.For.String()}, "rate": {fmt.Sprint(w.Rate)}, "status": {w.Status},
		"path": {w.Path}, "direction": {w.Direction}, "query": {strconv.FormatBool(w.ShowQuery)}, "headers": {strconv.FormatBool(w.Headers)},
	}
}

// parse reads a query and checks it. What is missing has its default. The error
// lists every problem.
func parse(v url.Values) (Wanted, error) {
	w := Wanted{Name: v.Get("name"), Sample: 100, For: DefaultTime, Rate: DefaultRate, Status: v.Get("status"), Path: v.Get("path"), Direction: v.Get("direction")}
	var errs []error
	bad := func(key, allowed string) {
		errs = append(errs, fmt.Errorf("%s %q; allowed: %s", key, v.Get(key), allowed))
	}
	given := func(key string, read func(string) bool, allowed string) {
		if text := v.Get(key); text != "" && !read(text) {
			bad(key, allowed)
		}
	}
	if w.Name == "" {
		bad("name", "a service, such as backend.prod, or a node, workload or task, as `patchbay status` lists them")
	}
	var err error
	given("sample", func(text string) bool {
		w.Sample, err = strconv.ParseFloat(text, 64)
		return err == nil && w.Sample >= leastSample && w.Sample <= 100
	}, fmt.Sprintf("%g to 100 percent", leastSample))
	given("for", func(text string) bool {
		w.For, err = time.ParseDuration(text)
		return err == nil && w.For > 0 && w.For <= MaxTime
	}, "up to "+MaxTime.String())
	given("rate", func(text string) bool {
		n, err := strconv.ParseUint(text, 10, 32)
		w.Rate = uint32(n)
		return err == nil && n > 0 && n <= MaxRate
	}, fmt.Sprintf("1 to %d requests a second", MaxRate))
	given("status", func(text string) bool { return statuses(text, &w.status) }, "such as 503, 5xx or 400-499")
	given("path", func(text string) bool { return strings.HasPrefix(text, "/") && !strings.Contains(text, "?") }, "how paths begin, such as /api/, without a query")
	given("direction", func(text string) bool { return slices.Contains([]string{Ingress, Egress, Both}, text) }, "ingress, egress, both")
	for key, into := range map[string]*bool{"query": &w.ShowQuery, "headers": &w.Headers} {
		given(key, func(text string) bool { *into, err = strconv.ParseBool(text); return err == nil }, "true or false")
	}
	return w, errors.Join(errs...)
}

// statuses reads 503, 5xx or 400-499.
func statuses(text string, into *[2]uint32) bool {
	low, high, isRange := strings.Cut(text, "-")
	if class, is := strings.CutSuffix(strings.ToLower(text), "xx"); is {
		low, high = class+"00", class+"99"
	} else if !isRange {
		high = low
	}
	for i, one := range []string{low, high} {
		n, err := strconv.ParseUint(one, 10, 16)
		if err != nil || n < 100 || n > 599 {
			return false
		}
		into[i] = uint32(n)
	}
	return into[0] <= into[1]
}
