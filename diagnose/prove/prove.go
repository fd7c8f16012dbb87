// Package prove proves that the services of a mesh are encrypted, as an auditor
// would: for each endpoint, what it must show, who looks, and what comes of it.
//
// It owns what is asked of the control plane for that. The handshakes and the
// judgement are those of package verify. Start reading at [Wanted.Reports].
package prove

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"patchbay/admin/api"
	"patchbay/audit"
	"patchbay/diagnose"
	"patchbay/diagnose/verify"
	"patchbay/internal/count"
)

// Where probes are made from, besides a node: another task's agent, or this
// machine.
const (
	FromAuto = "auto"
	fromHere = "here"
)

// atOnce is how many ports are looked at at a time.
const atOnce = 16

// Wanted is what is to be proved, and how.
type Wanted struct {
	Client    func() (*api.Client, error) // of the control plane; called where it is needed
	Endpoints []string                    // IP:PORT, instead of the service's own
	CA        string                      // file of the roots to trust; empty: what the mesh trusts
	Name      string                      // that the certificate must have; empty: the service's
	From      string                      // FromAuto, fromHere or a node
	MaxLife   time.Duration               // of a certificate
	Audit     string                      // file of the audit log that serials and keys are held against; empty: none
	Tool      string                      // names this program in reports
	Here      string                      // names this machine in reports
}

// status is the control plane's.
func (w *Wanted) status(ctx context.Context) (*api.Status, error) {
	client, err := w.Client()
	if err != nil {
		return nil, err
	}
	st := &api.Status{}
	return st, client.Get(ctx, "status", nil, st)
}

// Reports verifies the services that are named, else that of Name, else all that
// have TLS. What a port does is in its report; an error is that there is none.
func (w *Wanted) Reports(ctx context.Context, names ...string) ([]verify.Report, error) {
	switch {
	case len(names) > 0:
	case w.Name != "":
		names = []string{w.Name}
	default:
		st, err := w.status(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range st.Services {
			if s.TLS != nil && len(s.External) == 0 {
				names = append(names, s.Name)
			}
		}
		if len(names) == 0 {
			return nil, errors.New("no service of the mesh has TLS: declare `tls` in serviceConnectConfiguration")
		}
	}
	var out []verify.Report
	for _, n := range names {
		r, err := w.one(ctx, n)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

func (w *Wanted) one(ctx context.Context, name string) (verify.Report, error) {
	var roots *x509.CertPool
	if w.CA != "" {
		pem, err := os.ReadFile(w.CA)
		if roots = x509.NewCertPool(); err != nil || !roots.AppendCertsFromPEM(pem) {
			return verify.Report{}, &fs.PathError{Op: "roots:", Path: w.CA, Err: errors.Join(err, errors.New("no PEM certificate can be read from it"))}
		}
	}
	d := &api.ServiceDetail{Service: api.Service{Name: name}}
	if len(w.Endpoints) == 0 {
		client, err := w.Client()
		if err != nil {
			return verify.Report{}, err
		}
		if err := client.Get(ctx, "service", url.Values{"name": {name}}, d); err != nil {
			return verify.Report{}, err
		}
	}
	if len(d.External) > 0 {
		return verify.Report{}, fmt.Errorf("%s is a target outside the mesh, %s: callers' sidecars verify its certificate; 'patchbay explain CLIENT URL --live' makes a call", name, strings.Join(d.External, ", "))
	}
	for _, a := range w.Endpoints {
		d.Instances = append(d.Instances, api.Endpoint{Address: a})
	}
	e := verify.Expect{Name: d.Name, Roots: roots, MaxLife: w.MaxLife, Callers: diagnose.Callers(d)}
	if w.Name != "" {
		e.Name = w.Name
	}
	var err error
	if e.Log, err = w.log(); err != nil {
		return verify.Report{}, err
	}
	if roots == nil && d.RootsPEM != "" {
		e.Roots = x509.NewCertPool()
		e.Roots.AppendCertsFromPEM([]byte(d.RootsPEM))
	}
	if d.TLS != nil {
		e.Serial = d.TLS.Serial
	}
	verdicts := make([]verify.Endpoint, len(d.Instances))
	var all sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, in := range d.Instances {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			verdicts[i] = verify.Judge(w.look(ctx, d, in.Address, e.Name), e, time.Now())
		})
	}
	all.Wait()
	return verify.NewReport(d.Name, w.Tool, time.Now(), verdicts)
}

// log is what the audit log tells; nil if it is not asked for.
func (w *Wanted) log() (*verify.Log, error) {
	if w.Audit == "" {
		return nil, nil //nolint:nilnil // it is not asked for
	}
	issued, report, err := audit.Issued(w.Audit)
	if err != nil {
		return nil, err
	}
	out := &verify.Log{Issued: map[string]verify.Issued{}}
	if n := len(report.Problems); n > 0 {
		out.Problem = count.Of(n, "problem") + ", the first: " + report.Problems[0].String()
	}
	for serial, e := range issued {
		out.Issued[serial] = verify.Issued{Names: e.SANs, SPKI: e.SPKI}
	}
	return out, nil
}

// look probes a port from where it can be reached.
func (w *Wanted) look(ctx context.Context, d *api.ServiceDetail, address, name string) verify.Observation {
	h2 := d.Protocol == "http2" || d.Protocol == "grpc"
	if w.From == fromHere || len(w.Endpoints) > 0 {
		here := verify.Probe(ctx, address, name, h2)
		here.From = w.Here
		return here
	}
	there, err := w.lookFrom(ctx, d.Name, address)
	if err != nil {
		return verify.Observation{Address: address, From: w.From, At: time.Now().UTC(), Unreachable: err.Error()}
	}
	return there
}

// lookFrom has an agent probe, another task's if there is one.
func (w *Wanted) lookFrom(ctx context.Context, service, address string) (verify.Observation, error) {
	var seen verify.Observation
	client, err := w.Client()
	if err != nil {
		return seen, err
	}
	node := w.From
	if node == FromAuto {
		st, err := w.status(ctx)
		if err != nil {
			return seen, err
		}
		if node = st.OtherTask(address); node == "" {
			return seen, errors.New("no agent is connected that could look: --from here makes the handshakes on this machine")
		}
	}
	err = client.Get(ctx, "handshake", url.Values{"node": {node}, "service": {service}, "address": {address}}, &seen)
	return seen, err
}
