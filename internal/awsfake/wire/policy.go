package wire

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Principal is a caller. Without statements it may do everything.
type Principal struct {
	Secret     string
	Token      string // of a session; empty: none
	Account    string
	ARN        string // "arn:aws:sts::111122223333:assumed-role/patchbay/i-1"
	UserID     string // "AROA…:i-1"
	Statements []Statement
}

// Statement is one of an IAM policy. Of conditions it knows StringEquals and
// StringLike.
type Statement struct {
	Sid       string                       `json:"Sid,omitempty"`
	Effect    string                       `json:"Effect"`
	Action    List                         `json:"Action"`
	Resource  List                         `json:"Resource"`
	Condition map[string]map[string]string `json:"Condition,omitempty"`
}

// List is a string or several.
type List []string

// UnmarshalJSON implements [json.Unmarshaler].
func (l *List) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = List{one}
		return nil
	}
	var many []string
	err := json.Unmarshal(b, &many)
	*l = many
	return err
}

// ParsePolicy reads an IAM policy document.
func ParsePolicy(document []byte) ([]Statement, error) {
	var p struct{ Statement []Statement }
	if err := json.Unmarshal(document, &p); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	return p.Statement, nil
}

// Fits reports whether a statement is about this call.
func (s Statement) Fits(action, resource string, context map[string]string) bool {
	like := func(patterns []string, s string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return Like(p, s) })
	}
	if !like(s.Action, action) || !like(s.Resource, resource) {
		return false
	}
	for operator, want := range s.Condition {
		for key, v := range want {
			got, there := context[key]
			switch {
			case !there:
				return false
			case operator == "StringEquals" && got != v, operator == "StringLike" && !Like(v, got):
				return false
			case operator != "StringEquals" && operator != "StringLike":
				return false
			}
		}
	}
	return true
}

// Like is IAM's matching with * and ?.
func Like(pattern, s string) bool {
	// A slash is a letter like any other in IAM, but not in package path.
	unslash := strings.NewReplacer("/", "\x00", "[", "\x01", "\\", "\x02")
	ok, err := path.Match(unslash.Replace(pattern), unslash.Replace(s))
	return err == nil && ok
}

// Access is an action on a resource.
type Access struct{ Action, Resource string }

// May asks the caller's policy for this call on a resource (an ARN), with
// condition keys and their values, and records it. Every operation calls it
// before it does anything.
func (c *Call) May(resource string, context ...string) error {
	c.Resource = resource
	for i := 0; i+1 < len(context); i += 2 {
		c.Context[context[i]] = context[i+1]
	}
	return c.allowed(Access{c.Action(), resource})
}

// Also is May for what AWS asks for besides, such as the use of a KMS key.
func (c *Call) Also(action, resource string) error {
	a := Access{action, resource}
	c.Besides = append(c.Besides, a)
	return c.allowed(a)
}

// Could reports whether the caller's policy allows an action that AWS does
// without where it is refused. It is recorded only if it is allowed.
func (c *Call) Could(action, resource string) bool {
	a := Access{action, resource}
	ok := c.allowed(a) == nil
	if ok {
		c.Besides = append(c.Besides, a)
	}
	return ok
}

func (c *Call) allowed(a Access) error {
	if len(c.Principal.Statements) == 0 {
		return nil
	}
	allowed := false
	for _, st := range c.Principal.Statements {
		if !st.Fits(a.Action, a.Resource, c.Context) {
			continue
		}
		if st.Effect == "Deny" {
			return c.denied(a, "with an explicit deny in an identity-based policy")
		}
		allowed = true
	}
	if !allowed {
		return c.denied(a, fmt.Sprintf("because no identity-based policy allows the %s action", a.Action))
	}
	return nil
}

func (c *Call) denied(a Access, why string) error {
	return Fail("AccessDeniedException", "User: %s is not authorized to perform: %s on resource: %s %s", c.Principal.ARN, a.Action, a.Resource, why)
}
