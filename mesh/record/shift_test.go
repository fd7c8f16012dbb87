package record

import (
	"strings"
	"testing"
	"time"

	"patchbay/mesh"
)

func shift() mesh.Shift {
	return mesh.Shift{ID: "k1", At: time.UnixMilli(1760000000123).UTC(), From: "6", To: "7", Weights: []uint32{100, 500, 1000}, Every: time.Minute, Rollback: 10}
}

func TestShiftGoesThroughItsAttributes(t *testing.T) {
	attrs := map[string]string{"team": "blue"}
	do := func(c Change, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		attrs = c.Apply(attrs)
	}
	if ParseShift(attrs) != nil {
		t.Error("there is a shift")
	}
	s := shift()
	do(StartShift(attrs, s))
	s.Since = s.At
	at := s.At
	for step := range 3 {
		got := ParseShift(attrs)
		if got == nil || !got.Equal(s) || got.Done() != (step == 2) {
			t.Fatalf("step %d: %+v, want %+v", step, got, s)
		}
		at = at.Add(time.Minute)
		before := attrs
		do(StepShift(attrs, s, at))
		if c, _ := StepShift(attrs, s, at); !c.Empty() {
			t.Errorf("the same step again: %v", c) // another replica was faster
		}
		if step == 2 {
			if len(attrs) != len(before) {
				t.Error("a step beyond the last")
			}
			break
		}
		s.Step, s.Since = step+1, at
	}
	do(EndShift(attrs, "k0", "of another", at))
	if got := ParseShift(attrs); got.Ended != "" {
		t.Errorf("ended by another's order: %q", got.Ended)
	}
	do(EndShift(attrs, "k1", "rolled back:\n2 of 100 failed", at))
	if got := ParseShift(attrs); got.Ended != "rolled back: 2 of 100 failed" || got.Weight() != 0 {
		t.Errorf("%+v", got)
	}
	if c, _ := StepShift(attrs, shift(), at); !c.Empty() {
		t.Error("a step after the end")
	}
	next := shift()
	next.ID = "k2"
	do(StartShift(attrs, next))
	if got := ParseShift(attrs); got.Step != 0 || got.Ended != "" || got.Weight() != 100 {
		t.Errorf("the next shift begins as %+v", got)
	}
	do(ForgetShift(attrs), nil)
	if len(attrs) != 1 {
		t.Errorf("left: %v", attrs)
	}
}

func TestAShiftThatCannotBeUnderstoodIsNone(t *testing.T) {
	for _, text := range []string{
		"{", "{}", `{"id":"a","to":"7","weights":[]}`, `{"id":"a","to":"7","weights":[1001]}`, `{"id":"a","to":"7","from":"7","weights":[1]}`,
		`{"id":"a","to":"a b","weights":[1]}`, `{"id":"a","to":"7","weights":[1,2]}`, `{"id":"a","to":"7","weights":[1,2],"every":"soon"}`,
	} {
		if s := ParseShift(map[string]string{AttrShift: text}); s != nil {
			t.Errorf("%s: %+v", text, s)
		}
	}
	wrong := shift()
	wrong.To, wrong.Weights, wrong.Rollback = "a~b", []uint32{2000, 1}, 5000
	if _, err := StartShift(nil, wrong); err == nil || strings.Count(err.Error(), "allowed") != 3 {
		t.Errorf("three mistakes: %v", err)
	}
}
