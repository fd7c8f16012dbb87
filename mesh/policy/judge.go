package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Call is what a rule judges. An empty Method or Path is not known, and fits
// every rule: then the answer is about the caller alone.
type Call struct {
	Namespace, Workload string // of the caller
	Method, Path        string
}

func (c Call) String() string {
	return strings.Join(strings.Fields(c.Namespace+"/"+c.Workload+" "+c.Method+" "+c.Path), " ")
}

// Judge says which rule lets a call to a service of the namespace home in; -1
// if none does, and then why not, a line for each rule.
func (a *Authorization) Judge(home string, c Call) (rule int, why []string) {
	for i, r := range a.Rules {
		no := r.refuses(home, c)
		if no == "" {
			return i, nil
		}
		why = append(why, fmt.Sprintf("rules[%d] is %s", i, no))
	}
	if why == nil {
		why = []string{"there is no rule, so nobody may call"}
	}
	return -1, why
}

// refuses is what of r does not fit the call; empty: all does.
func (r Rule) refuses(home string, c Call) string {
	from := slices.ContainsFunc(r.From, func(f string) bool {
		namespace, name, _ := Workload(f, home)
		return f == Anybody || (namespace == c.Namespace || namespace == "*") && (name == c.Workload || name == "*" && strings.HasSuffix(f, "/*"))
	})
	switch {
	case !from:
		return "for " + strings.Join(r.From, ", ")
	case c.Method != "" && len(r.Methods) > 0 && !slices.Contains(r.Methods, c.Method):
		return "for " + strings.Join(r.Methods, ", ")
	case c.Path != "" && len(r.Paths)+len(r.Prefixes) > 0 && !r.reaches(c.Path):
		return "for " + strings.Join(slices.Concat(r.Paths, below(r.Prefixes)), ", ")
	}
	return ""
}

func (r Rule) reaches(path string) bool {
	return slices.Contains(r.Paths, path) || slices.ContainsFunc(r.Prefixes, func(p string) bool {
		return path == p && !strings.HasSuffix(p, "/") || strings.HasPrefix(path, strings.TrimSuffix(p, "/")+"/")
	})
}

func below(prefixes []string) (out []string) {
	for _, p := range prefixes {
		out = append(out, strings.TrimSuffix(p, "/")+"/…")
	}
	return out
}
