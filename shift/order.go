package shift

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/suggest"
	"patchbay/mesh"
	"patchbay/mesh/record"
)

// Wrong is an error that is the caller's: the order makes no sense.
type Wrong struct{ Text string }

func (w *Wrong) Error() string { return w.Text }

func wrong(format string, args ...any) error { return &Wrong{fmt.Sprintf(format, args...)} }

// Orders are given by operators.
type Orders struct {
	Store    *mesh.Store
	Registry Registry
}

// Keys are what an order consists of.
var Keys = []string{"service", "to", "from", "weight", "canary", "bake", "linear", "every", "rollback", "abort", "end"}

// Do carries out an order, and returns the shift as it now is; nil if there is
// none any more. An error that is *Wrong is the caller's; one that is *Lost says
// that another order stands in the place of this one. Every order that is given
// through any control plane and is not lost either holds when Do returns, or was
// followed by one that knew of it. That takes a moment: see [settle].
//
//	service=NAME to=REVISION [from=REVISION]  what moves; then one of
//	weight=10                                 as much, and no more
//	canary=5 bake=5m                          a little, and after a while all
//	linear=10 every=1m                        step by step
//	rollback=1                                back where more of the requests fail
//	service=NAME [rollback=1]                 to the newest revision, as the service declares
//	service=NAME abort=REASON                 back, now
//	service=NAME end=yes                      no division any more
func (o Orders) Do(ctx context.Context, v url.Values) (*mesh.Shift, error) {
	for _, k := range slices.Sorted(maps.Keys(v)) {
		if !slices.Contains(Keys, k) {
			return nil, wrong("%s: is not known; allowed: %s", k, strings.Join(Keys, ", "))
		}
	}
	s, err := o.service(v.Get("service"))
	if err != nil {
		return nil, err
	}
	switch {
	case v.Get("abort") != "":
		return o.abort(ctx, s, v.Get("abort"))
	case v.Get("end") != "":
		return nil, o.give(ctx, s, func(attrs map[string]string) (record.Change, error) { return record.ForgetShift(attrs), nil },
			func(now *mesh.Shift) bool { return now == nil })
	}
	sh, err := order(s, v)
	if err != nil {
		return nil, err
	}
	return &sh, o.give(ctx, s, func(attrs map[string]string) (record.Change, error) { return record.StartShift(attrs, sh) },
		func(now *mesh.Shift) bool { return now != nil && now.ID == sh.ID && now.Ended == "" })
}

func (o Orders) abort(ctx context.Context, s *mesh.Service, reason string) (*mesh.Shift, error) {
	var sh mesh.Shift
	if s.Deployment != nil {
		sh = s.Deployment.Shift
		if sh.From == "" {
			return nil, wrong("the shift of %s to %s has nothing to go back to", s.Name, sh.To)
		}
		if err := served(s, "abort", sh.From); err != nil && sh.Ended == "" {
			return nil, wrong("%v", err)
		}
	}
	err := o.give(ctx, s, func(attrs map[string]string) (record.Change, error) {
		return record.EndShift(attrs, sh.ID, reason, time.Now())
	},
		func(now *mesh.Shift) bool {
			return now == nil && sh.ID == "" || now != nil && now.ID == sh.ID && now.Ended != ""
		})
	if err == nil && sh.ID == "" {
		return nil, wrong("no shift of %s is under way", s.Name)
	}
	sh.Ended = cmp.Or(sh.Ended, reason)
	return &sh, err
}

func (o Orders) service(name string) (*mesh.Service, error) {
	services := map[string]*mesh.Service{}
	for _, s := range o.Store.Snapshot().Services {
		services[s.Name.String()] = s
	}
	full, err := suggest.Service(name, slices.Collect(maps.Keys(services)))
	if err != nil {
		return nil, wrong("%v", err)
	}
	if services[full].Foreign {
		return nil, wrong("%s is not patchbay's to write to", full)
	}
	return services[full], nil
}

// order is the shift that is wanted: without a word, to the newest revision as
// the service declares. The error lists every problem.
func order(s *mesh.Service, v url.Values) (mesh.Shift, error) {
	sh := mesh.Shift{ID: strings.ToLower(rand.Text()[:10]), At: time.Now().UTC().Truncate(time.Millisecond), To: v.Get("to"), From: v.Get("from")}
	var errs []error
	percent := func(key string) uint32 {
		n, err := parsePercent(v.Get(key))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
		return n
	}
	duration := func(key string, otherwise time.Duration) time.Duration {
		if v.Get(key) == "" {
			return otherwise
		}
		d, err := time.ParseDuration(v.Get(key))
		if err != nil || d < time.Second || d > 24*time.Hour {
			errs = append(errs, fmt.Errorf("%s: %q; allowed: 1s to 24h", key, v.Get(key)))
		}
		return d
	}
	ways := slices.DeleteFunc([]string{"weight", "canary", "linear"}, func(k string) bool { return v.Get(k) == "" })
	switch {
	case len(ways) > 1:
		errs = append(errs, fmt.Errorf("%s: allowed: one of them", strings.Join(ways, ", ")))
	case len(ways) == 0:
		sh.Weights = []uint32{mesh.Whole}
		if weights, every := Declared(s); sh.To == "" && weights != nil {
			sh.To, sh.Weights, sh.Every = s.Newest.Revision, weights, every
			if d := s.Deployment; d != nil && d.Shift.To == sh.To && d.Shift.Ended == "" {
				errs = append(errs, fmt.Errorf("to: the newest revision, %s, has its calls already, or is on its way to them; allowed: a revision", sh.To))
			}
		}
	case ways[0] == "weight":
		sh.Weights = []uint32{percent("weight")}
	case ways[0] == "canary":
		sh.Weights, sh.Every = []uint32{percent("canary"), mesh.Whole}, duration("bake", canaryBake*time.Minute)
	default:
		sh.Weights, sh.Every = linear(percent("linear")), duration("every", linearBake*time.Minute)
		if sh.Weights == nil {
			errs = append(errs, fmt.Errorf("linear: %q; allowed: 3 to 100 percent", v.Get("linear")))
		}
	}
	for key, way := range map[string]string{"bake": "canary", "every": "linear"} {
		if v.Get(key) != "" && !slices.Contains(ways, way) {
			errs = append(errs, fmt.Errorf("%s: allowed: with %s", key, way))
		}
	}
	if v.Get("rollback") != "" {
		sh.Rollback = percent("rollback")
	}
	errs = append(errs, revisions(s, &sh))
	if err := errors.Join(errs...); err != nil {
		return sh, wrong("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	if _, err := record.StartShift(nil, sh); err != nil {
		return sh, wrong("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return sh, nil
}

// linear is ECS's rule: equal steps, at least 3 %.
func linear(step uint32) (out []uint32) {
	if step < 30 || step > mesh.Whole {
		return nil
	}
	for w := step; w < mesh.Whole; w += step {
		out = append(out, w)
	}
	return append(out, mesh.Whole)
}

// parsePercent reads "10", "10%" or "0.5%" as tenths of a percent.
func parsePercent(text string) (uint32, error) {
	f, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(text, "%")), 64)
	tenths := uint32(0)
	if err == nil && f >= 0 && f <= 100 {
		tenths = uint32(f*10 + 0.5)
	}
	if err != nil || !(f >= 0 && f <= 100) || f*10-float64(tenths) > 1e-6 || float64(tenths)-f*10 > 1e-6 {
		return 0, fmt.Errorf("%q; allowed: 0 to 100 percent, in tenths", text)
	}
	return tenths, nil
}

// Percent is tenths of a percent in words: "10 %".
func Percent(tenths uint32) string {
	return strconv.FormatFloat(float64(tenths)/10, 'f', -1, 64) + " %"
}

// Of is "3 of 100".
func Of(a, b uint64) string { return fmt.Sprintf("%d of %d", a, b) }
