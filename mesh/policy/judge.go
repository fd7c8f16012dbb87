package policy

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Call is what a rule judges. An empty Method or Path is not known, and fits
// every rule: then the answer is about the caller alone.
type Call struct {
	Namespace, Workload string // of the caller, by its certificate; empty: it shows none
	Method              string
	Path                string // as it is sent: percent-encoded, with a query or without
}

func (c Call) String() string {
	who := c.Namespace + "/" + c.Workload
	if c.Workload == "" {
		who = "a caller without a certificate"
	}
	return strings.Join(strings.Fields(who+" "+c.Method+" "+c.Path), " ")
}

// Judge says which rule lets a call to a service of the namespace home in; -1
// if none does, and then why not, a line for each rule. It says what the
// service's Envoy does, which xds/translate/authz tells it.
func (a *Authorization) Judge(home string, c Call) (rule int, why []string) {
	c.Path, _, _ = strings.Cut(c.Path, "?")
	if a.MakesPlain() {
		path, ok := plain(c.Path)
		if !ok {
			return -1, []string{"some rule goes by paths, and then one with an escaped slash is refused"}
		}
		c.Path = path
	}
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
		return f == Anybody || c.Workload != "" && (namespace == c.Namespace || namespace == "*") && (name == c.Workload || name == "*" && strings.HasSuffix(f, "/*"))
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

// Climb is in no path that a prefix holds for: some application servers take
// /public/..;/admin for /admin. Envoy makes it plain, but not where the dots were
// escaped (measured on 1.40.0).
const Climb = "/..;"

func (r Rule) reaches(path string) bool {
	return slices.Contains(r.Paths, path) || !strings.Contains(path, Climb) && slices.ContainsFunc(r.Prefixes, func(p string) bool {
		return path == p && !strings.HasSuffix(p, "/") || strings.HasPrefix(path, strings.TrimSuffix(p, "/")+"/")
	})
}

// MakesPlain reports whether the paths of requests are made plain before the
// rules and the application read them: whoever goes by paths must not be shown
// //admin or /public/%2e%2e/admin. Nothing is changed where no rule names a path,
// or nothing is refused. a may be nil.
func (a *Authorization) MakesPlain() bool {
	return a != nil && !a.DryRun && slices.ContainsFunc(a.Rules, func(r Rule) bool { return len(r.Paths)+len(r.Prefixes) > 0 })
}

// plain is a path without its query as Envoy makes it plain (measured on 1.40.0);
// false: it refuses the request, because whether an escaped slash divides is for
// each application to say. The order is Envoy's: what a dot segment carries goes
// first, then escapes that need be none, then the segments, and empty ones last.
// An escape that is malformed stays as it is.
func plain(path string) (string, bool) {
	if lower := strings.ToLower(path); strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c") || strings.Contains(lower, "%00") {
		return "", false
	}
	all := strings.Split(path, "/")
	for i, s := range all {
		if name, _, _ := strings.Cut(s, ";"); name == "." || name == ".." {
			all[i] = name
		}
	}
	var out []string
	all = strings.Split(unescape(strings.Join(all, "/")), "/")
	for i, s := range all {
		switch {
		case s != "." && s != "..":
			out = append(out, s)
			continue
		case s == ".." && len(out) > 1:
			out = out[:len(out)-1]
		}
		if i == len(all)-1 {
			out = append(out, "")
		}
	}
	path = strings.Join(out, "/")
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path, true
}

// unescape undoes the escapes of what RFC 3986 leaves unreserved, escapes what no
// URI may hold, and takes a backslash for a slash, as browsers do.
func unescape(path string) string {
	var out strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' && i+2 < len(path) {
			if b, err := hex.DecodeString(path[i+1 : i+3]); err == nil && unreserved(b[0]) {
				out.WriteByte(b[0])
				i += 2
				continue
			}
		}
		switch {
		case c == '\\':
			out.WriteByte('/')
		case strings.IndexByte("\"<>^`{|}", c) >= 0:
			fmt.Fprintf(&out, "%%%02X", c)
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func below(prefixes []string) (out []string) {
	for _, p := range prefixes {
		out = append(out, strings.TrimSuffix(p, "/")+"/…")
	}
	return out
}
