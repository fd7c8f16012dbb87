package mesh

import (
	"cmp"
	"regexp"
	"slices"
	"time"
)

// Whole is the sum of the weights of a [Deployment]: they are tenths of a
// percent, the finest step that ECS's canary knows.
const Whole = 1000

// Deployment divides the calls of a service among its revisions. A service
// without one is called at all of its endpoints alike, whatever their revision,
// as in ECS's rolling deployment.
type Deployment struct {
	Shift Shift // what was asked for, and how far it is
	// Shares are sorted by revision; their weights add up to Whole. None means
	// that all endpoints are called alike.
	Shares []Share
	// Test is the revision that requests with the test header reach; empty:
	// they are as others.
	Test string
	// Warm are further revisions that are about to be called, sorted: sidecars
	// have what they need to call them before any does.
	Warm []string
}

// Share is what one revision gets of a service's calls.
type Share struct {
	Revision string
	Weight   uint32 // of Whole
}

// Shift moves the calls of a service from one revision to another, at once or
// in steps.
type Shift struct {
	ID string // of this order; a later one has another
	At time.Time
	// From and To are revisions. From is empty if there was none: To then has
	// everything, whatever the weights.
	From, To string
	// Weights are To's, step by step; of Whole. The last one stays.
	Weights []uint32
	Every   time.Duration // how long each step lasts; zero: there is one
	// Rollback is the share of failed requests to To, of Whole, above which
	// From gets everything again; zero: never.
	Rollback uint32

	Step  int       // which of Weights is in force
	Since time.Time // since when
	// Ended says why From has everything again, in words; empty: it has not.
	Ended string
}

// Weight is To's share now.
func (s Shift) Weight() uint32 {
	switch {
	case s.From == "":
		return Whole
	case s.Ended != "" || len(s.Weights) == 0:
		return 0
	}
	return s.Weights[min(max(s.Step, 0), len(s.Weights)-1)]
}

// Done reports whether nothing is left to be done.
func (s Shift) Done() bool { return s.Ended != "" || s.Step >= len(s.Weights)-1 }

// Equal reports whether s and o say the same.
func (s Shift) Equal(o Shift) bool {
	return s.ID == o.ID && s.At.Equal(o.At) && s.From == o.From && s.To == o.To && slices.Equal(s.Weights, o.Weights) &&
		s.Every == o.Every && s.Rollback == o.Rollback && s.Step == o.Step && s.Since.Equal(o.Since) && s.Ended == o.Ended
}

// Equal reports whether d and o divide alike.
func (d *Deployment) Equal(o *Deployment) bool {
	if d == nil || o == nil {
		return d == o
	}
	return d.Shift.Equal(o.Shift) && slices.Equal(d.Shares, o.Shares) && d.Test == o.Test && slices.Equal(d.Warm, o.Warm)
}

// Revisions are all that d names, sorted.
func (d *Deployment) Revisions() []string {
	if d == nil {
		return nil
	}
	out := slices.Clone(d.Warm)
	for _, s := range d.Shares {
		out = append(out, s.Revision)
	}
	if d.Test != "" {
		out = append(out, d.Test)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Birth is when a revision of a service first appeared.
type Birth struct {
	Revision string
	At       time.Time
}

// Newest is the youngest revision of all: it is production where nothing says
// otherwise. Never the greatest name: rolling back is normal. Of two of one
// moment it is the greater, so that everybody says the same.
func Newest(all []Birth) Birth {
	if len(all) == 0 {
		return Birth{}
	}
	return slices.MaxFunc(all, func(a, b Birth) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Revision, b.Revision)) })
}

// Deploy is what a shift amounts to for a service with these revisions. A
// revision without endpoints gets no calls, and if neither has any, the newest
// that there is gets all: a shift never leaves a service without.
func Deploy(s Shift, births []Birth) *Deployment {
	d := &Deployment{Shift: s}
	has := func(r string) bool {
		return slices.ContainsFunc(births, func(b Birth) bool { return b.Revision == r })
	}
	from, to := s.From != "" && has(s.From), has(s.To)
	w := s.Weight()
	switch {
	case from && to:
		d.Shares = []Share{{s.From, Whole - w}, {s.To, w}}
	case from:
		d.Shares = []Share{{s.From, Whole}}
	case to:
		d.Shares = []Share{{s.To, Whole}}
	default:
		if newest := Newest(births).Revision; newest != "" {
			d.Shares = []Share{{newest, Whole}}
		}
	}
	if to && w < Whole && s.Ended == "" {
		d.Test = s.To
	}
	slices.SortFunc(d.Shares, func(a, b Share) int { return cmp.Compare(a.Revision, b.Revision) })
	return d
}

// Spare has no calls go to a revision of which no endpoint can be called, where
// another one is called anyway: that gets its share, for as long as it lasts. A
// revision without a share gets none, and where no endpoint can be called,
// nothing is known that would be better: both are as the shift says.
func (d *Deployment) Spare(all []Endpoint) {
	able := func(s Share) bool {
		return slices.ContainsFunc(all, func(e Endpoint) bool { return e.Revision == s.Revision && e.Health != Unhealthy })
	}
	to := slices.IndexFunc(d.Shares, func(s Share) bool { return s.Weight > 0 && able(s) })
	for i, s := range d.Shares {
		if to >= 0 && !able(s) {
			d.Shares[to].Weight += s.Weight
			d.Shares[i].Weight = 0
		}
	}
}

var revision = regexp.MustCompile(`^[0-9a-zA-Z_.-]{1,64}$`)

// ValidRevision reports whether s may be the name of a revision.
func ValidRevision(s string) bool { return revision.MatchString(s) }
