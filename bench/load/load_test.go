package load

import (
	"bytes"
	"encoding/json"
	"net"
	"testing"
	"time"
)

// freePort is an address where nobody listens.
func freePort() (string, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer lis.Close()
	return lis.Addr().String(), nil
}

func TestAFailureIsCounted(t *testing.T) {
	nobody, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Protocols {
		var out bytes.Buffer
		if err := Open(t.Context(), p, nobody, 200, 100*time.Millisecond, false, &out); err != nil {
			t.Fatal(err)
		}
		var l Result
		if err := json.Unmarshal(out.Bytes(), &l); err != nil || l.Sent == 0 || l.Failed != l.Sent || len(l.Errors) == 0 {
			t.Errorf("%s: %+v, %v", p, l, err)
		}
	}
}

func TestWhatTheToolsPrint(t *testing.T) {
	for name, c := range map[string]struct {
		l    lines
		text string
		want string // the number of requests, or part of the error
	}{
		"wrk":            {wrkLines, "  21045 requests in 1.10s, 23.1MB read\n", "21045"},
		"wrk, statuses":  {wrkLines, "  21045 requests in 1.10s, 23.1MB read\n  Non-2xx or 3xx responses: 3\n", "requests failed"},
		"wrk, sockets":   {wrkLines, "  21045 requests in 1.10s, 23.1MB read\n  Socket errors: connect 0, read 7, write 0, timeout 0\n", "requests failed"},
		"h2load":         {h2loadLines, "requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout\ntraffic: 1MB (1) total, 1KB (1) headers (space savings 1%), 100KB (102400) data\n", "100"},
		"h2load, bodies": {h2loadLines, "requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout\ntraffic: 1MB (1) total, 1KB (1) headers (space savings 1%), 0KB (500) data\n", "lack their bodies"},
		"h2load, errors": {h2loadLines, "requests: 100 total, 100 started, 100 done, 90 succeeded, 10 failed, 10 errored, 0 timeout\n", "requests failed"},
		"nothing":        {wrkLines, "unable to connect", "no number of requests"},
	} {
		n, err := c.l.read("a tool", []byte(c.text))
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			b, _ := json.Marshal(n)
			got = string(b)
		}
		if !bytes.Contains([]byte(got), []byte(c.want)) {
			t.Errorf("%s: %s", name, got)
		}
	}
}
