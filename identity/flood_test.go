package identity

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"patchbay/identity/strangers"
)

// A flood of those who say nothing takes no more than there is for strangers,
// and whoever is known comes in beside it.
func TestAFloodOfStrangersKeepsNobodyOut(t *testing.T) {
	s := newStand(t)
	var first net.Conn
	for i := range strangers.Crowd() + 100 {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer c.Close()
		if i == 0 {
			first = c
		}
	}
	must(t, first.SetReadDeadline(time.Now().Add(time.Minute)))
	if _, err := first.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("who came first is still there: %v", err)
	}
	r, key := s.request(t, "backend")
	got, err := s.enrol(t, r)
	if err != nil {
		t.Fatalf("a task in the flood: %v", err)
	}
	if who, err := connect(t, s.dial(t, &tls.Certificate{Certificate: got.GetChainDer(), PrivateKey: key})); err != nil || !strings.HasPrefix(who, "demo/backend/t1") {
		t.Errorf("a node in the flood: %q, %v", who, err)
	}
	if !strings.Contains(s.log.String(), "had not said who it is") {
		t.Error("nobody is told of the flood")
	}
}
