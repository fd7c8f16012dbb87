package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	"patchbay/admin/api"
	"patchbay/controlplane"
	"patchbay/internal/envoytest"
)

// faults breaks the mesh on purpose, under requests on one connection.
func (p *plane) faults(front *member, alias uint16) {
	t := p.t
	var dials atomic.Int32
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}}
	url := fmt.Sprintf("http://%s:%d/", front.lookup("backend.demo"), alias)
	get := func(want int) {
		t.Helper()
		envoytest.Eventually(t, 10e9, func() error {
			resp, err := client.Get(url)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			io.Copy(io.Discard, resp.Body)
			if resp.StatusCode != want {
				return fmt.Errorf("%s, want %d", resp.Status, want)
			}
			return nil
		})
	}
	get(200)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &lockedBuffer{}
	root := newRoot()
	root.SetOut(out)
	root.SetErr(out)
	root.SetArgs([]string{"fault", "abort", "backend.demo", "418", "--admin", "unix:" + controlplane.AdminSocket(p.cfg.Data), "-o", "json"})
	done := make(chan error, 1)
	go func() { done <- root.ExecuteContext(ctx) }()
	get(418)
	p.prints(exitFailed, `backend\.demo has a fault already`, "fault", "delay", "backend.demo", "10ms", "--for", "1s")
	if n := dials.Load(); n != 1 {
		t.Errorf("the fault has cut connections: %d were made", n)
	}
	cancel() // Ctrl-C
	if err := <-done; err != nil {
		t.Error(err)
	}
	get(200)
	if n := dials.Load(); n != 1 {
		t.Errorf("the fault's end has cut connections: %d were made", n)
	}
	var rows []api.Suffered
	if err := json.Unmarshal([]byte(out.String()), &rows); err != nil || len(rows) != 1 || rows[0].Node != "demo/frontend/f1" || rows[0].Aborted < 1 || rows[0].Requests < rows[0].Aborted || rows[0].Lost {
		t.Errorf("%v: %s", err, out)
	}
	p.prints(exitDone, `(?s)began: 100 % of the requests to backend\.demo wait 20ms.*ended:`, "fault", "delay", "backend", "20ms", "--for", "100ms")
	p.prints(exitDone, `(?s)is not shown as an endpoint of backend\.demo \(0 are left\).*ended:`, "fault", "drop", "backend.demo", "--for", "100ms")
	p.prints(exitDone, `(?s)began: the registry refuses 100 % of its calls.*ended:`, "fault", "throttle", "--for", "100ms")
	p.prints(exitUsage, `service "nobody" is not in the mesh; there are: backend\.demo`, "fault", "drop", "nobody")
	p.prints(exitUsage, `(?s)abort "700"; allowed: 200 to 599`, "fault", "abort", "backend.demo", "700")
	p.prints(exitUsage, `time "soon"; allowed: such as 300ms`, "fault", "delay", "backend.demo", "soon")
	p.prints(exitUsage, `for "11m0s"; allowed: up to 10m0s`, "fault", "restart", "--for", "11m")
	get(200)
	p.prints(exitDone, `began: the control plane ends and starts again`, "fault", "restart", "--for", "5s")
	p.prints(exitDone, `demo/frontend/f1 has what it should have`, "diff", "f1")
	get(200)
}
