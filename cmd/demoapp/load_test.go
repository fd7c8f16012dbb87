package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// Without a duration the load goes on until it is told to stop, and ends
// cleanly then.
func TestLoadUntilStopped(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var calls atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if fmt.Fprint(w, "one"); calls.Add(1) == 3 {
			stop()
		}
	}))
	defer s.Close()
	var out bytes.Buffer
	c := newLoad()
	c.SetArgs([]string{"--duration", "0", "--rate", "1000", s.URL})
	c.SetOut(&out)
	if err := c.ExecuteContext(ctx); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var last report
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || !last.Done || last.OK < 3 || last.Failed > 0 {
		t.Errorf("%v: %s", err, out.String())
	}
}
