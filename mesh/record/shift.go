package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/mesh"
)

// maxSteps bounds the weights of a shift: a linear one of the least step that
// ECS knows, 3 %, has 34.
const maxSteps = 100

// WriteTime bounds how long a change of a service's attributes takes from the
// moment at which what stands there is asked for until the registry has
// answered the write. Cloud Map has no compare-and-set: whoever has written, and
// still reads its own word when this has passed, was overwritten by nobody who
// did not know of it.
const WriteTime = 600 * time.Millisecond

type shiftDoc struct {
	ID       string   `json:"id"`
	At       int64    `json:"at"` // Unix milliseconds
	From     string   `json:"from,omitempty"`
	To       string   `json:"to"`
	Weights  []uint32 `json:"weights"`
	Every    string   `json:"every,omitempty"`
	Rollback uint32   `json:"rollback,omitempty"`
}

// StartShift puts a shift in the place of whatever was before. The error says
// what is wrong with it.
func StartShift(old map[string]string, s mesh.Shift) (Change, error) {
	if err := validShift(s); err != nil {
		return Change{}, err
	}
	doc := shiftDoc{ID: s.ID, At: s.At.UnixMilli(), From: s.From, To: s.To, Weights: s.Weights, Rollback: s.Rollback}
	if s.Every > 0 {
		doc.Every = s.Every.String()
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return Change{}, fmt.Errorf("encode a shift: %w", err)
	}
	if len(b) > MaxValue {
		return Change{}, fmt.Errorf("a shift of %d steps: %w (%d bytes)", len(s.Weights), ErrTooLarge, MaxValue)
	}
	c := Change{Put: map[string]string{AttrShift: string(b)}}
	return c, room(old, c)
}

// StepShift brings a shift to its next step at a time. Nothing is to be done
// if the attributes have another shift, are past its step, or say that it ended.
func StepShift(old map[string]string, s mesh.Shift, now time.Time) (Change, error) {
	is := ParseShift(old)
	if is == nil || is.ID != s.ID || is.Step != s.Step || is.Done() {
		return Change{}, nil
	}
	c := Change{Put: map[string]string{AttrShiftStep: fmt.Sprintf("%s %d %d", s.ID, s.Step+1, now.UnixMilli())}}
	return c, room(old, c)
}

// EndShift calls a shift off. Nothing is to be done if the attributes have
// another one, or say so already.
func EndShift(old map[string]string, id, reason string, now time.Time) (Change, error) {
	is := ParseShift(old)
	if is == nil || is.ID != id || is.Ended != "" {
		return Change{}, nil
	}
	words := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, reason)
	c := Change{Put: map[string]string{AttrShiftEnd: fmt.Sprintf("%s %d %s", id, now.UnixMilli(), words[:min(len(words), MaxValue/2)])}}
	return c, room(old, c)
}

// ForgetShift is back to calling all endpoints alike.
func ForgetShift(old map[string]string) Change {
	var c Change
	for _, k := range []string{AttrShift, AttrShiftEnd, AttrShiftStep} {
		if _, there := old[k]; there {
			c.Delete = append(c.Delete, k)
		}
	}
	return c
}

// room refuses what would be more attributes than a service can have.
func room(old map[string]string, c Change) error {
	if n := len(c.Apply(old)); n > MaxServiceAttrs {
		return fmt.Errorf("%d attributes: %w (%d)", n, ErrTooLarge, MaxServiceAttrs)
	}
	return nil
}

// ParseShift reads the shift of a service; nil if there is none that can be
// understood.
func ParseShift(attrs map[string]string) *mesh.Shift {
	var doc shiftDoc
	if json.Unmarshal([]byte(attrs[AttrShift]), &doc) != nil {
		return nil
	}
	s := mesh.Shift{ID: doc.ID, At: time.UnixMilli(doc.At).UTC(), From: doc.From, To: doc.To, Weights: doc.Weights, Rollback: doc.Rollback}
	if doc.Every != "" {
		d, err := time.ParseDuration(doc.Every)
		if err != nil {
			return nil
		}
		s.Every = d
	}
	if validShift(s) != nil {
		return nil
	}
	s.Since = s.At
	if f := strings.Fields(attrs[AttrShiftStep]); len(f) == 3 && f[0] == s.ID {
		step, err := strconv.Atoi(f[1])
		ms, err2 := strconv.ParseInt(f[2], 10, 64)
		if err == nil && err2 == nil && step >= 0 && step < len(s.Weights) {
			s.Step, s.Since = step, time.UnixMilli(ms).UTC()
		}
	}
	if f := strings.SplitN(attrs[AttrShiftEnd], " ", 3); len(f) == 3 && f[0] == s.ID {
		if ms, err := strconv.ParseInt(f[1], 10, 64); err == nil {
			s.Since, s.Ended = time.UnixMilli(ms).UTC(), f[2]
		}
	}
	return &s
}

func validShift(s mesh.Shift) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	const form = "allowed: 1 to 64 of [0-9a-zA-Z_.-]"
	if !mesh.ValidRevision(s.ID) {
		bad("the shift's id %q; %s", s.ID, form)
	}
	if !mesh.ValidRevision(s.To) {
		bad("to: %q; %s", s.To, form)
	}
	if s.From != "" && !mesh.ValidRevision(s.From) {
		bad("from: %q; %s", s.From, form)
	}
	if s.From == s.To {
		bad("from and to are both %q; allowed: two revisions", s.To)
	}
	if n := len(s.Weights); n == 0 || n > maxSteps {
		bad("%d steps; allowed: 1 to %d", n, maxSteps)
	}
	if i := slices.IndexFunc(s.Weights, func(w uint32) bool { return w > mesh.Whole }); i >= 0 {
		bad("a weight of %d; allowed: 0 to %d tenths of a percent", s.Weights[i], mesh.Whole)
	}
	if len(s.Weights) > 1 && (s.Every < time.Second || s.Every > 24*time.Hour) {
		bad("steps of %s; allowed: 1s to 24h", s.Every)
	}
	if s.Rollback > mesh.Whole {
		bad("a roll-back at %d; allowed: 0 to %d tenths of a percent", s.Rollback, mesh.Whole)
	}
	return errors.Join(errs...)
}
