package policy

import (
	"fmt"
	"strconv"
)

// Unmet lists the paths of rules that a request for them does not meet, because
// Envoy makes the paths of requests plain before the rules read them
// ([Authorization.MakesPlain]), with what it makes of each. Whoever declares p is
// to know; for what is stored already it is no reason to refuse all of it, since
// such a rule lets nobody in. The paths of routes are compared as they are sent,
// so any of them can be met. What [Policy.Problems] lists is not listed again.
func (p *Policy) Unmet() []Problem {
	if p == nil || p.Authorization == nil {
		return nil
	}
	c := &checker{}
	for i, r := range p.Authorization.Rules {
		for _, list := range []struct {
			name  string
			paths []string
		}{{"paths", r.Paths}, {"prefixes", r.Prefixes}} {
			for j, path := range list.paths {
				c.unmet(fmt.Sprintf("authorization.rules[%d].%s[%d]", i, list.name, j), path)
			}
		}
	}
	return c.problems
}

func (c *checker) unmet(at, path string) {
	if !isPath(path) {
		return
	}
	read, taken := plain(path)
	again, _ := plain(read)
	switch {
	case !taken:
		c.bad(at, "%s is met by no request: with rules that go by paths, one with an escaped slash, backslash or NUL is answered 400; allowed: without %%2F, %%5C and %%00", strconv.Quote(path))
	case read == path:
	case again == read:
		c.bad(at, "%s is met by no request: their paths are made plain first, and this one is read as %s; allowed: plain ones, such as %[2]s", strconv.Quote(path), strconv.Quote(read))
	default: // what is made of it is not plain either
		c.bad(at, "%s is met by no request: their paths are made plain first, and this one is read as %s; allowed: without the segments . and .., escaped or with parameters", strconv.Quote(path), strconv.Quote(read))
	}
}
