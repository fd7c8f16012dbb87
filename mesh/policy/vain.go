package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Vain lists what p means otherwise than it looks: the wildcards and templates of
// others, which are compared as they stand, and a header that is named twice. As
// with [Policy.Unmet], whoever declares p is to know; what is stored is read.
func (p *Policy) Vain() []Problem {
	if p == nil {
		return nil
	}
	c := &checker{}
	if p.Authorization != nil {
		for i, r := range p.Authorization.Rules {
			for j, path := range r.Paths { // {} are no part of a plain path: see Unmet
				c.wildcard(fmt.Sprintf("authorization.rules[%d].paths[%d]", i, j), path, "")
			}
			for j, path := range r.Prefixes {
				c.wildcard(fmt.Sprintf("authorization.rules[%d].prefixes[%d]", i, j), path, "")
			}
		}
	}
	for i, r := range p.Routes {
		at := fmt.Sprintf("routes[%d].match", i)
		c.wildcard(at+".path", r.Match.Path, "{}")
		c.wildcard(at+".prefix", r.Match.Prefix, "{}")
		seen := ""
		for _, name := range slices.SortedFunc(maps.Keys(r.Match.Headers), compareFold) {
			if strings.EqualFold(name, seen) {
				c.bad(at+".headers", "%s is there twice, for case does not tell names apart; allowed: each once", strconv.Quote(strings.ToLower(name)))
			}
			seen = name
		}
	}
	return c.problems
}

func compareFold(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) }

// wildcard finds a path that ends in *, or has one of some characters.
func (c *checker) wildcard(at, p, chars string) {
	if strings.HasSuffix(p, "*") || strings.ContainsAny(p, chars) {
		c.bad(at, "%s would be compared as it stands, for there are no wildcards; allowed: a path, or a prefix, of whole segments unless it ends in /", strconv.Quote(p))
	}
}
