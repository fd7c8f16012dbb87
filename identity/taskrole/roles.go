package taskrole

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"patchbay/internal/iam"
	"patchbay/mesh"
)

// Role says which workload those who have an IAM role are: tasks of an ECS
// service, or EC2 instances.
type Role struct {
	Workload mesh.Workload
	ARN      string // arn:aws:iam::ACCOUNT:role/PATH/NAME

	Cluster string // of tasks: name
	Service string // of tasks: name of the ECS service

	// InstanceProfile is the ARN of that of instances; empty: any that is named
	// like the role, in its account.
	InstanceProfile string
}

// is reports whether the caller has this role. The ARN of an assumed role
// leaves out the role's path; names are unique in an account.
func (r Role) is(c Caller) bool {
	account, name := r.names()
	return account != "" && account == c.Account && name == c.Role
}

// names are the account and the name, without its path, of the role.
func (r Role) names() (account, name string) { return names(r.ARN) }

func names(arn string) (account, name string) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 {
		return "", ""
	}
	return parts[4], arn[strings.LastIndexByte(arn, '/')+1:]
}

// census is who knows the callers of one kind.
type census interface {
	// running refuses what is not there, is not the role's, or is elsewhere.
	running(ctx context.Context, role Role, id string, from netip.Addr) error
	// gone tells of each of ids whether it has ended; what it can't know by
	// their form is left out.
	gone(ctx context.Context, role Role, ids []string) (map[string]bool, error)
}

// Kind is one kind of callers: tasks, or instances. Make it with [Tasks] or
// [Instances].
type Kind struct {
	keyID    string
	verifier *Verifier
	census   census
	roles    []Role
}

// role is that of a workload.
func (k *Kind) role(w mesh.Workload) (Role, bool) {
	i := slices.IndexFunc(k.roles, func(r Role) bool { return r.Workload.String() == w.String() })
	if i < 0 {
		return Role{}, false
	}
	return k.roles[i], true
}

// what a caller is by its name, and where the control plane's file says which
// workload it is.
func what(task string) (kind, key string) {
	if KeyIDOf(task) == InstanceKeyID {
		return "instance", "identities.instanceRoles"
	}
	return "task", "identities.taskRoles"
}

// Roles admits callers by their role. It is safe for concurrent use. Without
// kinds it admits nobody.
type Roles []*Kind

// find is the role of a node, among those of the kind that its name has.
func (r Roles) find(n mesh.Node) (*Kind, Role, error) {
	for _, k := range r {
		if role, ok := k.role(n.Workload); ok && k.keyID == KeyIDOf(n.Task) {
			return k, role, nil
		}
	}
	_, key := what(n.Task)
	return nil, Role{}, refuse("workload %.200s has no role: name it in %s of the control plane's file", n.Workload, key)
}

// Workloads are those that callers can be by their role. One that tasks and
// instances can be stands there twice.
func (r Roles) Workloads() []mesh.Workload {
	var out []mesh.Workload
	for _, k := range r {
		out = append(out, k.Workloads()...)
	}
	return out
}

// KeyID is what stands in the node certificates of this kind in the place of a
// join key's id.
func (k *Kind) KeyID() string { return k.keyID }

// Workloads are those that callers of this kind can be.
func (k *Kind) Workloads() []mesh.Workload {
	out := make([]mesh.Workload, len(k.roles))
	for i, r := range k.roles {
		out[i] = r.Workload
	}
	return out
}

// Admit returns the workload of a caller that has proved its role, and until
// when its proof (which id names) must be remembered as used. from is where the
// caller connects from.
func (r Roles) Admit(ctx context.Context, proof string, csrDER []byte, claimed mesh.Node, from netip.Addr, now time.Time) (w mesh.Workload, id string, expires time.Time, err error) {
	k, role, err := r.find(claimed)
	if err != nil {
		return w, "", expires, err
	}
	c, err := k.verifier.Verify(ctx, proof, csrDER, now)
	switch {
	case err != nil:
		return w, "", expires, err
	case !role.is(c):
		return w, "", expires, refuse("the caller is %s; workload %s is role %s", c.ARN, role.Workload, role.ARN)
	case c.Session != claimed.Task:
		kind, _ := what(claimed.Task)
		return w, "", expires, refuse("AWS says that it is %s %s, it says that it is %.80q", kind, c.Session, claimed.Task)
	}
	if err := k.census.running(ctx, role, c.Session, from); err != nil {
		return w, "", expires, err
	}
	return role.Workload, c.Signature, c.Expires, nil
}

// Enrol is Admit for one use: claim is asked last whether the proof is new.
func (r Roles) Enrol(ctx context.Context, proof string, csrDER []byte, claimed mesh.Node, from netip.Addr, now time.Time, claim func(ctx context.Context, id string, until, now time.Time) (bool, error)) (mesh.Node, error) {
	w, id, expires, err := r.Admit(ctx, proof, csrDER, claimed, from, now)
	if err != nil {
		return mesh.Node{}, err
	}
	first, err := claim(ctx, "role#"+id, expires, now)
	if err == nil && !first {
		err = refuse("it was used before; an agent makes a new one for each attempt")
	}
	return mesh.Node{Workload: w, Task: claimed.Task}, err
}

// Still returns nil while a node that was admitted is there, and what its role
// says. from is where it connects from.
func (r Roles) Still(ctx context.Context, n mesh.Node, from netip.Addr) error {
	k, role, err := r.find(n)
	if err != nil {
		return err
	}
	return k.census.running(ctx, role, n.Task, from)
}

// Gone tells which of the tasks of a workload have ended (true) and which have
// not. Those that AWS can't know by their name are left out. The error says
// what to do; then nothing is known of any.
func (r Roles) Gone(ctx context.Context, w mesh.Workload, tasks []string) (map[string]bool, error) {
	gone := map[string]bool{}
	for _, k := range r {
		role, ok := k.role(w)
		if !ok {
			continue
		}
		some, err := k.census.gone(ctx, role, tasks)
		if err != nil {
			return nil, err
		}
		maps.Copy(gone, some)
	}
	return gone, nil
}

// comesFrom refuses a connection from none of the addresses that a caller has.
func comesFrom(has []string, what string, from netip.Addr) error {
	for _, a := range has {
		if addr, err := netip.ParseAddr(a); err == nil && addr == from.Unmap() {
			return nil
		}
	}
	return refuse("%s has address %s, but the connection comes from %s. If that is a load balancer, it hides its clients: switch client IP preservation on for its target group, or PROXY protocol v2 there and agent.proxyProtocol here", what, strings.Join(has, ", "), from)
}

// code is what AWS calls an error; empty if it is none of AWS's.
func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

// explain says what would allow a call that was refused.
func explain(action string, err error) error {
	return fmt.Errorf("%s: %w", action[strings.IndexByte(action, ':')+1:], iam.Explain(err, action, ""))
}
