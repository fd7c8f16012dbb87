package strangers

import (
	"net"
	"testing"
)

func TestTheOldestStrangerGoes(t *testing.T) {
	r := New(2)
	var conns []net.Conn
	var leaves []func()
	for i := range 4 {
		c, other := net.Pipe()
		t.Cleanup(func() { other.Close() })
		leave, closed := r.Enter(c)
		if i < 2 && closed != nil || i >= 2 && closed != conns[i-2] {
			t.Errorf("%d: %v is closed", i, closed)
		}
		conns, leaves = append(conns, c), append(leaves, leave)
	}
	if _, err := conns[0].Write([]byte{1}); err == nil {
		t.Error("the first is still open")
	}
	leaves[0]() // its place is another's now
	if r.order.Len() != 2 {
		t.Errorf("%d are here", r.order.Len())
	}
	known := Until(conns[2], leaves[2])
	known.Close()
	known.Close()
	if _, closed := r.Enter(conns[1]); closed != nil || r.order.Len() != 2 {
		t.Errorf("%v had to go for a place that was free; %d are here", closed, r.order.Len())
	}
}
