// Package iam says of a call that AWS refused what would allow it: the action,
// the resource, and the policy statement.
//
// It must not know any service of AWS. Start reading at [Explain].
package iam

import (
	"cmp"
	"encoding/json"
	"errors"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"
)

// said is how AWS words a refusal. Who, the action and the resource are in it,
// unless the service says less.
var said = regexp.MustCompile(`(?:User: (\S+) )?is not authorized to perform: ([a-z0-9-]+:[A-Za-z0-9*]+)(?: on resource: (\S+))?`)

// Denied is a call that IAM refused. It says what would allow it.
type Denied struct {
	Who      string // ARN of the caller; empty: AWS does not say
	Action   string
	Resource string // ARN, or "*"
	// Condition is what the statement may ask besides, by operator and key; the
	// caller of Explain knows it.
	Condition map[string]map[string]string
	Explicit  bool // a statement denies it: allowing it does not help
	Err       error
}

// Explain makes a *Denied of an error by which AWS refuses a call, and returns
// any other, and one that it has made, as it is. Action and resource are for a
// refusal that does not name its own; an empty resource is "*".
func Explain(err error, action, resource string) error {
	if _, done := errors.AsType[*Denied](err); done {
		return err
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return err
	}
	switch api.ErrorCode() {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
	default:
		return err
	}
	d := &Denied{Action: action, Resource: cmp.Or(resource, "*"), Err: err, Explicit: strings.Contains(api.ErrorMessage(), "explicit deny")}
	if m := said.FindStringSubmatch(api.ErrorMessage()); m != nil {
		d.Who, d.Action, d.Resource = m[1], m[2], cmp.Or(m[3], d.Resource)
	}
	return d
}

// Statement is what would allow the call, as it stands in a policy.
func (d *Denied) Statement() string {
	b, err := json.Marshal(struct {
		Effect, Action, Resource string
		Condition                map[string]map[string]string `json:",omitempty"`
	}{"Allow", d.Action, d.Resource, d.Condition})
	if err != nil {
		panic(err) // strings alone
	}
	return string(b)
}

// Error names the action, the resource and the remedy.
func (d *Denied) Error() string {
	who := cmp.Or(d.Who, "the role of this process")
	if d.Explicit {
		return who + " may not " + d.Action + " on " + d.Resource + ": a policy denies it explicitly; take that statement out (an SCP or a permissions boundary counts too)"
	}
	return who + " may not " + d.Action + " on " + d.Resource + "; this statement in its policy allows it: " + d.Statement()
}

// Unwrap is the SDK's error.
func (d *Denied) Unwrap() error { return d.Err }
