package taskrole

import (
	"errors"
	"maps"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	fakeec2 "patchbay/internal/awsfake/ec2"
	"patchbay/internal/awsfake/sts"
	"patchbay/internal/awsfake/wire"
	"patchbay/mesh"
)

const (
	machineID = "i-0123456789abcdef0"
	otherID   = "i-0fedcba9876543210"
	profile   = "arn:aws:iam::111122223333:instance-profile/backend"
)

// fleet is AWS with one instance of the workload backend.
type fleet struct {
	cloud
	ec2 *fakeec2.EC2
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	e := fakeec2.New()
	s := wire.New(wire.Options{Region: region, Principals: map[string]wire.Principal{
		"CONTROLPLANE": {Secret: "cp", ARN: "arn:aws:sts::111122223333:assumed-role/patchbay/1"},
	}}, sts.API(), e.API())
	s.Grant("ASIATASK", task("backend", machineID))
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	e.Put(fakeec2.Instance{ID: machineID, Profile: profile, Addresses: []string{"10.0.1.17", "2001:db8::17"}})
	return &fleet{cloud{t: t, aws: s, url: h.URL}, e}
}

func (f *fleet) instances(profile string) Roles {
	api := ec2.New(ec2.Options{Region: region, BaseEndpoint: &f.url, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("CONTROLPLANE", "cp", "")})
	return Roles{Instances(NewVerifier(audience, region, f.url), api.DescribeInstances, []Role{{Workload: backend, ARN: roleName, InstanceProfile: profile}})}
}

func (f *fleet) admit(claimed string) error {
	_, _, _, err := f.instances("").Admit(f.t.Context(), f.proof(), csr, node(backend, claimed), address, time.Now())
	return err
}

// TestAnInstanceIsAdmitted from each of its addresses, with the profile that is
// named like its role, or the one that was said.
func TestAnInstanceIsAdmitted(t *testing.T) {
	f := newFleet(t)
	for _, p := range []string{"", profile} {
		for _, from := range []string{"10.0.1.17", "::ffff:10.0.1.17", "2001:db8::17"} {
			w, id, _, err := f.instances(p).Admit(t.Context(), f.proof(), csr, node(backend, machineID), netip.MustParseAddr(from), time.Now())
			if err != nil || id == "" || w.String() != "prod/backend" {
				t.Errorf("%q, from %s: %v, %v", p, from, w, err)
			}
		}
	}
	f.ec2.Put(fakeec2.Instance{ID: machineID, Profile: "arn:aws:iam::111122223333:instance-profile/mesh/backend", Addresses: []string{"10.0.1.17"}, State: "pending"})
	if err := f.instances("").Still(t.Context(), node(backend, machineID), address); err != nil {
		t.Error(err)
	}
}

// TestForgedInstances: whoever has the role's credentials under another name,
// or from elsewhere, is not the instance.
func TestForgedInstances(t *testing.T) {
	for name, x := range map[string]struct {
		claimed string
		who     wire.Principal
		is      fakeec2.Instance
		want    string
	}{
		"another instance's session": {claimed: machineID, who: task("backend", otherID), want: "it says that it is \"" + machineID},
		"another instance's name":    {claimed: otherID, want: "it says that it is \"" + otherID},
		"a session of a user":        {claimed: machineID, who: task("backend", "alice"), want: "AWS says that it is instance alice"},
		"a task's name":              {claimed: taskID, want: "no role: name it in identities.taskRoles"},
		"a host's name":              {claimed: "ip-10-0-1-17", want: "no role: name it in identities.taskRoles"},
		"another role":               {claimed: machineID, who: task("frontend", machineID), want: "workload prod/backend is role"},
		"terminated":                 {is: fakeec2.Instance{State: "terminated"}, want: `is "terminated"`},
		"shutting down":              {is: fakeec2.Instance{State: "shutting-down"}, want: `is "shutting-down"`},
		"stopped":                    {is: fakeec2.Instance{State: "stopped"}, want: `is "stopped"`},
		"no such instance":           {is: fakeec2.Instance{ID: otherID}, want: "EC2 has no instance"},
		"another address":            {is: fakeec2.Instance{Addresses: []string{"10.0.1.18"}}, want: "PROXY protocol v2"},
		"no address":                 {is: fakeec2.Instance{Addresses: []string{}}, want: "the connection comes from"},
		"another profile":            {is: fakeec2.Instance{Profile: strings.Replace(profile, "backend", "frontend", 1)}, want: "has instance profile"},
		"no profile":                 {is: fakeec2.Instance{Profile: "none"}, want: "has instance profile"},
		"a profile elsewhere":        {is: fakeec2.Instance{Profile: strings.Replace(profile, "1111", "4444", 1)}, want: "has instance profile"},
		"a role for a profile":       {is: fakeec2.Instance{Profile: roleName}, want: "has instance profile"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			if x.who.ARN != "" {
				f.aws.Grant("ASIATASK", x.who)
			}
			if x.claimed == "" { // what EC2 says differs from what is good
				x.claimed = machineID
				is := fakeec2.Instance{ID: machineID, State: x.is.State, Profile: profile, Addresses: []string{"10.0.1.17"}}
				if x.is.ID != "" {
					is.ID = x.is.ID
				}
				if x.is.Profile != "" {
					is.Profile = strings.TrimPrefix(x.is.Profile, "none")
				}
				if x.is.Addresses != nil {
					is.Addresses = x.is.Addresses
				}
				f.ec2.Forget(machineID)
				f.ec2.Put(is)
				if err := f.instances("").Still(t.Context(), node(backend, machineID), address); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), x.want) {
					t.Errorf("at its renewal: %v; want %q", err, x.want)
				}
			}
			if err := f.admit(x.claimed); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v; want %q", err, x.want)
			}
		})
	}
	f := newFleet(t)
	f.ec2.Put(fakeec2.Instance{ID: machineID, Profile: profile, Addresses: []string{"10.0.1.17"}})
	if _, _, _, err := f.instances(profile+"-2").Admit(t.Context(), f.proof(), csr, node(backend, machineID), address, time.Now()); !errors.Is(err, ErrRefused) {
		t.Errorf("with another profile than the one that was said: %v", err)
	}
}

// TestEC2InTrouble admits nobody, and is not taken for a refusal.
func TestEC2InTrouble(t *testing.T) {
	f := newFleet(t)
	for _, fault := range []wire.Fault{{Error: "InternalError", Status: 500}, {Error: "ThrottlingException"}, {Error: "AccessDeniedException"}, {Cut: true}, {Lost: true}} {
		fault.Service = "ec2"
		clear := f.aws.Inject(fault)
		if err := f.admit(machineID); err == nil || errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "DescribeInstances") {
			t.Errorf("%+v: %v", fault, err)
		}
		if _, err := f.instances("").Gone(t.Context(), backend, []string{machineID}); err == nil {
			t.Errorf("%+v: it is known what has ended", fault)
		}
		clear()
	}
	if err := f.admit(machineID); err != nil {
		t.Error(err)
	}
}

// TestBothKinds: a workload may be tasks and instances; each is asked about
// where it can be known, and what can't be is left out.
func TestBothKinds(t *testing.T) {
	c, f := newCloud(t), newFleet(t)
	f.ec2.Put(fakeec2.Instance{ID: otherID, State: "stopped"})
	both := append(c.tasks(), f.instances("")...)
	if n := len(both.Workloads()); n != 2 {
		t.Errorf("%d workloads", n)
	}
	if _, _, _, err := both.Admit(t.Context(), c.proof(), csr, node(backend, taskID), address, time.Now()); err != nil {
		t.Error(err)
	}
	if _, _, _, err := both.Admit(t.Context(), f.proof(), csr, node(backend, machineID), address, time.Now()); err != nil {
		t.Error(err)
	}
	const endedID = "ffffffffffffffffffffffffffffffff"
	gone, err := both.Gone(t.Context(), backend, []string{taskID, endedID, machineID, otherID, "i-00000000", "ip-10-0-1-17"})
	want := map[string]bool{taskID: false, endedID: true, machineID: false, otherID: true, "i-00000000": true}
	if err != nil || !maps.Equal(gone, want) {
		t.Errorf("%v, %v", gone, err)
	}
	if gone, err := both.Gone(t.Context(), mesh.Workload{Namespace: "prod", Name: "frontend"}, []string{taskID}); err != nil || len(gone) != 0 {
		t.Errorf("of another workload: %v, %v", gone, err)
	}
}
