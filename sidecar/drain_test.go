package sidecar

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patchbay/sidecar/ecs"
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

// TestADrainEndsBeforeTheStopTimeout: whoever kills the task must not come
// first.
func TestADrainEndsBeforeTheStopTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &Agent{cfg: Config{StopTimeout: 6 * time.Second}, log: slog.New(slog.DiscardHandler), report: make(chan struct{}, 1), drained: make(chan struct{}), st: state{connected: true}}
		began := time.Now()
		a.drain(t.Context()) // nobody answers
		if took := time.Since(began); took != 6*time.Second-stopReserve {
			t.Errorf("it took %s", took)
		}
	})
}

// TestATaskThatECSStopsLeavesAtOnce, and only once.
func TestATaskThatECSStopsLeavesAtOnce(t *testing.T) {
	a := &Agent{log: slog.New(slog.DiscardHandler), report: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	a.told(&ecs.Task{ARN: "x"})
	if a.st.draining || len(a.report) > 0 || len(a.wake) != 1 {
		t.Errorf("a running task: draining %v, %d reports, %d wakes", a.st.draining, len(a.report), len(a.wake))
	}
	<-a.wake
	a.told(&ecs.Task{ARN: "x"})
	if len(a.wake) > 0 {
		t.Error("what has not changed wakes")
	}
	for range 2 {
		a.told(&ecs.Task{ARN: "x", Stopping: true})
		if !a.st.draining || len(a.report) != 1 {
			t.Errorf("a stopping task: draining %v, %d reports", a.st.draining, len(a.report))
		}
	}
}
