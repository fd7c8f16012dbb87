package hold

import (
	"strings"
	"testing"
	"time"

	"patchbay/discovery/cloud"
	"patchbay/mesh"
	"patchbay/mesh/record"
)

func ids(list []cloud.Instance) string {
	var out []string
	for _, i := range list {
		out = append(out, i.ID())
	}
	return strings.Join(out, "")
}

func instances(letters string) []cloud.Instance {
	var out []cloud.Instance
	for l := range strings.SplitSeq(letters, "") {
		out = append(out, cloud.Instance{Instance: record.Instance{Endpoint: mesh.Endpoint{InstanceID: l}}})
	}
	return out
}

// Each row is an answer at a second, and what is presented after it.
func TestWhatIsBelieved(t *testing.T) {
	type row struct {
		at       int
		revision int64
		answer   string
		leaving  string
		good     string
		again    time.Duration
	}
	for name, rows := range map[string][]row{
		"additions and small losses at once": {
			{0, 1, "ab", "", "ab", 0}, {1, 2, "abcde", "", "abcde", 0}, {2, 3, "abc", "", "abc", 0}, {3, 4, "a", "", "a", 0},
		},
		"half is not more than half": {
			{0, 1, "abcdef", "", "abcdef", 0}, {1, 2, "abc", "", "abc", 0},
		},
		"more than half is asked again twice": {
			{0, 1, "abcde", "", "abcde", 0}, {1, 2, "ab", "", "abcde", 2 * time.Second},
			{3, 2, "ab", "", "abcde", 3 * time.Second}, {6, 2, "ab", "", "ab", 0},
		},
		"additions pass while a drop is held": {
			{0, 1, "abcde", "", "abcde", 0}, {1, 2, "af", "", "abcdef", 2 * time.Second}, {3, 3, "afg", "", "abcdefg", 3 * time.Second},
			{6, 3, "afg", "", "afg", 0},
		},
		"time alone confirms nothing": {
			{0, 1, "abcde", "", "abcde", 0}, {1, 2, "a", "", "abcde", 2 * time.Second}, {100, 2, "a", "", "abcde", 2 * time.Second},
			{102, 2, "a", "", "abcde", 3 * time.Second}, {105, 2, "a", "", "a", 0},
		},
		"it came back": {
			{0, 1, "abcde", "", "abcde", 0}, {1, 2, "", "", "abcde", 2 * time.Second}, {3, 3, "abcde", "", "abcde", 0},
			{4, 4, "", "", "abcde", 2 * time.Second}, {6, 4, "", "", "abcde", 3 * time.Second},
		},
		"empty is held for half a minute": {
			{0, 1, "a", "", "a", 0}, {1, 2, "", "", "a", 2 * time.Second}, {3, 2, "", "", "a", 3 * time.Second}, {6, 2, "", "", "a", 5 * time.Second},
			{11, 2, "", "", "a", 5 * time.Second}, {16, 2, "", "", "a", 5 * time.Second}, {21, 2, "", "", "a", 5 * time.Second},
			{26, 2, "", "", "a", 5 * time.Second}, {31, 2, "", "", "", 0},
		},
		"what was between two answers is not known after a silence": {
			{0, 1, "a", "", "a", 0}, {1, 2, "", "", "a", 2 * time.Second}, {9, 2, "", "", "a", 2 * time.Second}, {18, 2, "", "", "a", 2 * time.Second},
			{32, 2, "", "", "a", 2 * time.Second}, {34, 2, "", "", "a", 3 * time.Second},
		},
		"announced removals are not doubted": {
			{0, 1, "abcde", "", "abcde", 0}, {1, 2, "a", "bcde", "a", 0}, {2, 3, "", "a", "", 0},
		},
		"one that announced its end hides nobody else's loss": {
			{0, 1, "ab", "", "ab", 0}, {1, 2, "a", "a", "ab", 2 * time.Second},
		},
		"a lower revision counts at its time only": {
			{0, 9, "abc", "", "abc", 0}, {1, 4, "xyz", "", "abc", time.Second}, {1, 4, "xyz", "", "abc", time.Second},
			{2, 4, "xyz", "", "abc", 2 * time.Second}, {3, 4, "xyz", "", "abc", time.Second}, {4, 4, "abcd", "", "abcd", 0},
		},
		"a lower revision that goes": {
			{0, 9, "abc", "", "abc", 0}, {1, 4, "x", "", "abc", time.Second}, {2, 9, "abc", "", "abc", 0}, {3, 4, "x", "", "abc", time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := Belief{Rules: Rules{HoldEmpty: 30 * time.Second, HoldDrop: 5 * time.Second}}
			zero := time.Unix(1000, 0)
			for _, r := range rows {
				var next []cloud.Instance
				if r.answer != "" {
					next = instances(r.answer)
				}
				again := b.Take(zero.Add(time.Duration(r.at)*time.Second), r.revision, next, func(id string) bool { return strings.Contains(r.leaving, id) })
				if got := ids(b.Good); got != r.good || again != r.again {
					t.Errorf("at %d s: %q, again in %s; want %q, %s", r.at, got, again, r.good, r.again)
				}
			}
		})
	}
}
