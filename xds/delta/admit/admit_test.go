package admit

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var somewhere = netip.MustParseAddr("10.0.0.1")

func TestAStormIsSpreadAndItsTailTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Limits{Rate: 10, Burst: 20, Wait: 2 * time.Second, PerAddress: 1000})
		began := time.Now()
		results := make(chan time.Duration, 100)
		for range 100 {
			go func() {
				if _, err := g.Admit(t.Context(), "", somewhere); err == nil {
					results <- time.Since(began)
				} else if status.Code(err) == codes.ResourceExhausted && time.Since(began) == 0 {
					results <- -1
				} else {
					t.Error(err)
				}
			}()
		}
		atOnce, later, refused := 0, 0, 0
		for range 100 {
			switch d := <-results; {
			case d < 0:
				refused++
			case d == 0:
				atOnce++
			case d <= 2*time.Second:
				later++
			default:
				t.Errorf("one waited %v", d)
			}
		}
		if atOnce != 20 || later != 20 || refused != 60 {
			t.Errorf("%d at once, %d later, %d refused", atOnce, later, refused)
		}
		// The refused cost nothing: after a second ten more fit.
		time.Sleep(time.Second)
		if _, err := g.Admit(t.Context(), "", somewhere); err != nil {
			t.Error(err)
		}
	})
}

func TestWhoGivesUpWhileWaitingLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Limits{Rate: 1, Burst: 1})
		if _, err := g.Admit(t.Context(), "", somewhere); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if _, err := g.Admit(ctx, "", somewhere); status.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
		began := time.Now()
		if _, err := g.Admit(t.Context(), "", somewhere); err != nil || time.Since(began) > 500*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if n := g.byAddr[somewhere]; n != 2 {
			t.Errorf("%d places are taken", n)
		}
	})
}

func TestOneIdentityKeepsItsNewestStreams(t *testing.T) {
	g := New(Limits{PerIdentity: 2})
	var all []*Pass
	for range 4 {
		p, err := g.Admit(t.Context(), "prod/web/1", somewhere)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	for i, p := range all {
		over := false
		select {
		case <-p.Over():
			over = true
		default:
		}
		if over != (i < 2) {
			t.Errorf("stream %d is over: %v", i, over)
		}
	}
	if _, err := g.Admit(t.Context(), "prod/web/2", somewhere); err != nil {
		t.Error("another identity:", err)
	}
	for _, p := range all {
		p.Leave()
	}
	if len(g.byID) != 1 || g.byAddr[somewhere] != 1 {
		t.Errorf("remembered: %v, %v", g.byID, g.byAddr)
	}
}

func TestOneAddressHasItsShare(t *testing.T) {
	g := New(Limits{PerAddress: 2})
	mapped := netip.MustParseAddr("::ffff:10.0.0.1")
	p, _ := g.Admit(t.Context(), "", somewhere)
	if _, err := g.Admit(t.Context(), "", mapped); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Admit(t.Context(), "", somewhere); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a third: %v", err)
	}
	p.Leave()
	if _, err := g.Admit(t.Context(), "", somewhere); err != nil {
		t.Errorf("after one left: %v", err)
	}
	for range 5 {
		for _, free := range []netip.Addr{{}, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")} {
			if _, err := g.Admit(t.Context(), "", free); err != nil {
				t.Errorf("%v: %v", free, err)
			}
		}
	}
}
