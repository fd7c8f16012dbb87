package wire

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"time"
)

// Fault is a script of trouble for the calls that it fits, in the order in
// which faults were added; a call meets one at most.
type Fault struct {
	Service   string // signing name; empty: any
	Operation string // empty: any
	Skip      int    // calls that fit and are let pass first
	Times     int    // how many calls it meets; 0: all, until cleared

	Latency time.Duration // before anything is done
	Hang    bool          // no answer until the caller gives up; nothing is done
	Error   string        // answered instead of doing anything
	Status  int           // of Error; 0: 400
	Text    string        // of Error; empty: some
	// Lost does what was asked for and breaks the connection instead of
	// answering. Cut breaks it in the middle of the answer.
	Lost, Cut bool
}

// Inject adds a fault and returns what takes it away again.
func (s *Server) Inject(f Fault) (clear func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &f
	if f.Times == 0 {
		p.Times = -1
	}
	s.faults = append(s.faults, p)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		p.Times = 0
	}
}

// fault is the one that a call meets; its zero value does nothing.
func (s *Server) fault(c *Call) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Times == 0 || f.Service != "" && f.Service != c.Service || f.Operation != "" && f.Operation != c.Operation {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		if f.Times > 0 {
			f.Times--
		}
		return *f
	}
	return Fault{}
}

func (f Fault) before(ctx context.Context) error {
	if f.Latency > 0 {
		t := time.NewTimer(f.Latency)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	if f.Hang {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return Fail("RequestTimeout", "the caller has gone")
	}
	if f.Error != "" {
		text := "injected by the test"
		if f.Error == "ThrottlingException" {
			text = "Rate exceeded"
		}
		return &Error{Code: f.Error, Text: cmp.Or(f.Text, text), Status: f.Status}
	}
	return nil
}

func (f Fault) after(w http.ResponseWriter, answer func(http.ResponseWriter)) {
	if f.Lost {
		panic(http.ErrAbortHandler)
	}
	if !f.Cut {
		answer(w)
		return
	}
	whole := httptest.NewRecorder()
	answer(whole)
	maps.Copy(w.Header(), whole.Header())
	body := whole.Body.Bytes()
	w.WriteHeader(whole.Code)
	w.Write(body[:len(body)/2])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
