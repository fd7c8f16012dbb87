package mesh

import (
	"testing"

	"patchbay/mesh/policy"
)

// TestOverrideStaysThroughChanges: what is shown follows the registry, and when
// the override ends, the newest real service is there.
func TestOverrideStaysThroughChanges(t *testing.T) {
	s := NewStore()
	s.SetServices("demo", []*Service{svc("a"), svc("b")})
	name := ServiceName{"demo", "a"}
	fault := &policy.Policy{Fault: &policy.Fault{Abort: &policy.Abort{Status: 503, Percent: 50}}}
	with := func(v *Service) *Service {
		c := *v
		c.Policy = fault
		return &c
	}
	undo, ok := s.Override(name, with)
	if !ok || s.Snapshot().Service(name).Policy != fault || s.Snapshot().Service(ServiceName{"demo", "b"}).Policy != nil {
		t.Fatal("the override is not shown, or elsewhere too")
	}
	if _, again := s.Override(name, with); again {
		t.Error("overridden twice")
	}
	if _, ok := s.Override(ServiceName{"demo", "nobody"}, with); ok {
		t.Error("a service that is not there was overridden")
	}
	shown := s.Snapshot().Service(name)
	if s.SetServices("demo", []*Service{svc("a"), svc("b")}) || s.Snapshot().Service(name) != shown {
		t.Error("an equal list is a change")
	}
	newer := svc("a", Alias{DNSName: "a.demo", Port: 80})
	s.SetServices("demo", []*Service{newer, svc("b")})
	if v := s.Snapshot().Service(name); v.Policy != fault || len(v.Aliases) != 1 {
		t.Errorf("%+v", v)
	}
	if undo(); s.Snapshot().Service(name) != newer {
		t.Error("the real service is not back")
	}
	undo()
	if undo, ok = s.Override(name, with); !ok {
		t.Fatal("not again")
	}
	s.SetServices("demo", []*Service{svc("b")})
	undo()
	if s.Snapshot().Service(name) != nil {
		t.Error("a service that has gone came back")
	}
}

// TestOverrideLeaf: the service's own leaf is kept, and what it has become
// meanwhile comes back.
func TestOverrideLeaf(t *testing.T) {
	s, name := NewStore(), ServiceName{"demo", "a"}
	leaf := func(chain string) *Leaf { return &Leaf{Service: name, ChainPEM: []byte(chain), KeyPEM: []byte(chain)} }
	if _, ok := s.OverrideLeaf(leaf("brief")); ok {
		t.Error("a service without a leaf got one")
	}
	s.SetLeaf(leaf("old"))
	undo, ok := s.OverrideLeaf(leaf("brief"))
	if !ok || string(s.Snapshot().Leaves[name].ChainPEM) != "brief" {
		t.Fatal("the other leaf is not shown")
	}
	if _, again := s.OverrideLeaf(leaf("x")); again {
		t.Error("overridden twice")
	}
	if s.SetLeaf(leaf("new")) || string(s.Snapshot().Leaves[name].ChainPEM) != "brief" {
		t.Error("a renewal has ended it")
	}
	if undo(); string(s.Snapshot().Leaves[name].ChainPEM) != "new" {
		t.Error("the renewed leaf is not shown")
	}
	if undo(); !s.SetLeaf(leaf("newer")) {
		t.Error("a renewal is held although nothing is overridden")
	}
}
