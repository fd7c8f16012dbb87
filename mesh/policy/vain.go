package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Vain lists what p means otherwise than it looks: what [Policy.Unmet] does, the
// wildcards and templates of others, which are compared as they stand, a header
// that is named twice, and what another member takes the effect from. Whoever
// declares p is to know; what is stored is read all the same.
func (p *Policy) Vain() []Problem {
	if p == nil {
		return nil
	}
	c := &checker{problems: p.Unmet()}
	if o := p.OutlierDetection; o != nil && o.BaseEjection != nil && o.MaxEjection != nil && *o.MaxEjection < *o.BaseEjection {
		c.bad("outlierDetection.maxEjection", "%s is less than baseEjection; allowed: %s or more", o.MaxEjection, o.BaseEjection)
	}
	c.unasked(p)
	if p.Retries != nil {
		c.star("retries.ifMethodIs", p.Retries.IfMethodIs)
	}
	if p.Authorization != nil {
		for i, r := range p.Authorization.Rules {
			c.star(fmt.Sprintf("authorization.rules[%d].methods", i), r.Methods)
			for j, path := range r.Paths { // {} are no part of a plain path: see Unmet
				c.wildcard(fmt.Sprintf("authorization.rules[%d].paths[%d]", i, j), path, "")
			}
			for j, path := range r.Prefixes {
				c.wildcard(fmt.Sprintf("authorization.rules[%d].prefixes[%d]", i, j), path, "")
			}
		}
	}
	open := -1 // the first route that takes everything
	for i, r := range p.Routes {
		if open >= 0 {
			c.bad(fmt.Sprintf("routes[%d]", i), "is never reached, for routes[%d] takes everything; allowed: before it", open)
		} else if m := r.Match; m.Path == "" && (m.Prefix == "" || m.Prefix == "/") && len(m.Methods)+len(m.Headers) == 0 {
			open = i
		}
		if w := r.Rewrite; w != nil && strings.ContainsAny(w.Host, "/\\?#@") {
			c.bad(fmt.Sprintf("routes[%d].rewrite.host", i), "%s; allowed: a host name, with a port or without", strconv.Quote(w.Host))
		}
		at := fmt.Sprintf("routes[%d].match", i)
		c.star(at+".methods", r.Match.Methods)
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

// unasked finds callers that an authorization lets in, but not to ask for the
// health that they are to ask for: they would take every task for sick.
func (c *checker) unasked(p *Policy) {
	a, h := p.Authorization, p.HealthCheck
	if a == nil || a.DryRun || h == nil || h.Kind() == CheckTCP {
		return
	}
	const home = "here"
	method, path := h.Asks()
	for i, r := range a.Rules {
		for _, f := range r.From {
			call := Call{Method: method, Path: path}
			if f != Anybody {
				call.Namespace, call.Workload, _ = Workload(f, home)
			}
			if rule, _ := a.Judge(home, call); rule < 0 {
				c.bad("healthCheck", "authorization.rules[%d] lets %s in, but nothing lets it ask %s %s: it would take every task for sick; allowed: with a rule for that too", i, f, method, path)
				return
			}
		}
	}
}

// star finds the wildcard of others among methods.
func (c *checker) star(at string, methods []string) {
	if i := slices.Index(methods, "*"); i >= 0 {
		c.bad(fmt.Sprintf("%s[%d]", at, i), `"*" would be compared as it stands, for there are no wildcards; allowed: methods such as GET, or no list for all`)
	}
}

// wildcard finds a path that ends in *, or has one of some characters.
func (c *checker) wildcard(at, p, chars string) {
	if strings.HasSuffix(p, "*") || strings.ContainsAny(p, chars) {
		c.bad(at, "%s would be compared as it stands, for there are no wildcards; allowed: a path, or a prefix, of whole segments unless it ends in /", strconv.Quote(p))
	}
}
