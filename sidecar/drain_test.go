package sidecar

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// waiting runs await in a bubble and returns how long it took, and its error.
func waiting(t *testing.T, meanwhile func(*Agent)) (took time.Duration, err error) {
	a := &Agent{drained: make(chan struct{}), st: state{connected: true}}
	synctest.Test(t, func(t *testing.T) {
		a.drained = make(chan struct{})
		go meanwhile(a)
		began := time.Now()
		err = a.await(t.Context())
		took = time.Since(began)
	})
	return took, err
}

func TestADrainWaitsAsLongAsThereIsSomebodyToAnswer(t *testing.T) {
	took, err := waiting(t, func(a *Agent) { time.Sleep(5 * time.Second); close(a.drained) })
	if err != nil || took != 5*time.Second {
		t.Errorf("an answer: %s, %v", took, err)
	}
	took, err = waiting(t, func(*Agent) {})
	if err == nil || took < drainAnswer || took > drainAnswer+time.Second {
		t.Errorf("no answer: %s, %v", took, err)
	}
	took, err = waiting(t, func(a *Agent) {
		time.Sleep(time.Second)
		a.set(func(s *state) { s.connected, s.lost = false, "connection refused" })
	})
	if err == nil || !strings.Contains(err.Error(), "connection refused") || took > drainAlone+1200*time.Millisecond {
		t.Errorf("lost on the way: %s, %v", took, err)
	}
}
