package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"patchbay/demo/evidence"
	"patchbay/demo/lab"
	"patchbay/demo/report"
	"patchbay/internal/poll"
)

// FakeAWS is the Options.Cloud with which the mesh stands on AWS's protocols.
const FakeAWS = "fake-aws"

// metadataAddress is where ECS answers its tasks.
const metadataAddress = "169.254.170.2"

// cloud is what stands in for AWS, and the second control plane there.
type cloud struct {
	host    *lab.Host
	process *lab.Process
	URL     string `json:"url"`
	Control string `json:"control"`
	CA      string `json:"ca"`

	second  *lab.Host
	replica *lab.Process
}

// roles are the workloads of the demo, and what each may offer.
var roles = map[string][]string{
	"backend": {"backend", "backend-h2", "backend-grpc", "backend-tcp"}, "frontend": nil, "later": {"later"}, "plain": {"plain"},
}

// startCloud runs the stand-ins on a machine of their own.
func (w *world) startCloud(ctx context.Context) error {
	h, err := w.Add(ctx, "aws", 4)
	if err != nil {
		return err
	}
	if _, err := h.Output(ctx, "ip", "addr", "add", metadataAddress+"/32", "dev", "eth0"); err != nil {
		return err
	}
	c := &cloud{host: h}
	if c.process, err = h.Start("awsfake", nil, w.program("awsfake"), "--short-lived", "--listen", h.Addr.String()+":18010",
		"--metadata", metadataAddress+":80", "--control", h.Addr.String()+":18012"); err != nil {
		return err
	}
	if err := poll.Until(ctx, patience, func() error {
		text, err := os.ReadFile(c.process.Log)
		line, _, whole := strings.Cut(string(text), "\n")
		if err == nil && !whole {
			err = fmt.Errorf("awsfake has not said where it is:\n%s", c.process.Tail(5))
		}
		if err == nil {
			err = json.Unmarshal([]byte(line), c)
		}
		return err
	}); err != nil {
		return err
	}
	root, err := c.ask(ctx, "GET", "/ca", "")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(w.path("ca"), 0o755); err != nil { //nolint:gosec // nothing in it is secret
		return err
	}
	if err := os.WriteFile(w.path("ca/root_ca.crt"), []byte(root+"\n"), 0o644); err != nil { //nolint:gosec // as above
		return err
	}
	if c.second, err = w.Add(ctx, "control-2", 5); err != nil {
		return err
	}
	w.cloud = c
	for file, of := range map[string]struct {
		data string
		on   *lab.Host
	}{"patchbay.yaml": {"data", w.control}, "patchbay-2.yaml": {"data-2", c.second}} {
		if err := os.WriteFile(w.path(file), []byte(w.cloudConfig(of.data, of.on)), 0o600); err != nil {
			return fmt.Errorf("control plane's configuration: %w", err)
		}
	}
	return nil
}

func (w *world) cloudConfig(data string, on *lab.Host) string {
	c := w.cloud
	var b strings.Builder
	fmt.Fprintf(&b, `trustDomain: %s
namespaces: [%s]
createNamespaces: true
data: %s
cloudMap: {endpoint: %q, region: us-east-1}
xds: {listen: "0.0.0.0:18000"}
agent: {listen: "0.0.0.0:18001"}
admin: {listen: "127.0.0.1:18002"}
replicas: {listen: "%s:18005"}
issuers:
  default:
    privateCA: {arn: %q, endpoint: %q}
secrets:
  secretsManager: {endpoint: %q, region: us-east-1}
identities:
  taskRoles:
    region: us-east-1
    stsEndpoint: %q
    ecsEndpoint: %q
    workloads:
`, trustDomain, namespace, w.path(data), c.URL, on.Addr, c.CA, c.URL, c.URL, c.URL, c.URL)
	for name, offers := range roles {
		fmt.Fprintf(&b, "      - {namespace: %s, workload: %s, discoveryNames: [%s], role: %q, cluster: demo}\n",
			namespace, name, strings.Join(offers, ", "), "arn:aws:iam::111122223333:role/"+name)
	}
	return b.String()
}

// together waits until each control plane hears the other: from then on what
// one is told, both know.
func (w *world) together(ctx context.Context) error {
	for _, h := range []*lab.Host{w.control, w.cloud.second} {
		if err := poll.Until(ctx, patience, func() error {
			text, err := h.Output(ctx, "curl", "-sSf", "--max-time", "2", "http://127.0.0.1:18002/metrics")
			if err == nil && !strings.Contains(text, `patchbay_replicas{heard="true"} 1`) {
				err = fmt.Errorf("%s does not hear the other control plane", h.Name)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// keys are what the control planes sign with; no task has them.
func (w *world) keys() []string {
	return []string{"AWS_ACCESS_KEY_ID=control", "AWS_SECRET_ACCESS_KEY=control", "AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null"}
}

// taskID is an ECS task's id, by the name that the demo has for it.
func taskID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}

// runTask has ECS run a task of a service, and returns its environment and the
// flags of its sidecar.
func (w *world) runTask(ctx context.Context, h *lab.Host, workload string, services []service) (env, flags []string, err error) {
	ports := []int{}
	for _, s := range services {
		ports = append(ports, s.port)
	}
	body, err := json.Marshal(map[string]any{
		"cluster": "demo", "service": workload, "role": workload, "address": h.Addr.String(), "zone": "use1-az1", "container": "app", "ports": ports,
	})
	if err != nil {
		return nil, nil, err
	}
	text, err := w.cloud.ask(ctx, "PUT", "/tasks/"+taskID(h.Name), string(body))
	if err == nil {
		err = json.Unmarshal([]byte(text), &env)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("run a task of %s: %w", workload, err)
	}
	if _, err := h.Output(ctx, "ip", "route", "add", metadataAddress, "dev", "eth0"); err != nil {
		return nil, nil, err
	}
	env = append(env, "AWS_ENDPOINT_URL_STS="+w.cloud.URL, "AWS_REGION=us-east-1", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	both := func(port int) string {
		return fmt.Sprintf("%s:%d,%s:%d", w.control.Addr, port, w.cloud.second.Addr, port)
	}
	return env, []string{"--xds", both(18000), "--agent", both(18001)}, nil
}

// ask calls the control endpoint of the stand-ins.
func (c *cloud) ask(ctx context.Context, method, path, body string) (string, error) {
	args := []string{"curl", "-sSf", "--max-time", "5", "-X", method, c.Control + path}
	if body != "" {
		args = append(args, "--data-binary", body)
	}
	return c.host.Output(ctx, args...)
}

// calls are how often each operation was answered.
func (c *cloud) calls(ctx context.Context) (map[string]int, error) {
	text, err := c.ask(ctx, "GET", "/calls", "")
	if err != nil {
		return nil, err
	}
	var sums []struct {
		Operation string
		Answered  int
	}
	if err := json.Unmarshal([]byte(text), &sums); err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, s := range sums {
		out[s.Operation] += s.Answered
	}
	return out, nil
}

// cloudProofs stand in the place of the one with the same id, or at the end.
var cloudProofs = []proof{
	{"new-service", "a new service is called from a running task", proveNewService},
	{"control-plane-killed", "both control planes killed for 20 s", proveKilled},
	{"replica-killed", "a replica killed during a rotation", proveReplicaKilled},
	{"issued-once", "replicas raced, certificates issued once", proveIssuedOnce},
	{"bill", "what it cost", proveBill},
}

// onCloud are the proofs where the mesh stands on AWS's protocols.
func onCloud() []proof {
	all := slices.Clone(proofs)
	for _, p := range cloudProofs {
		if i := slices.IndexFunc(all, func(o proof) bool { return o.id == p.id }); i >= 0 {
			all[i] = p
		} else {
			all = append(all, p)
		}
	}
	return all
}

// proveReplicaKilled kills the replica that was asked for a rotation while it
// waits for the CA: the other finishes it. The service is not that of the other
// rotation: Secrets Manager takes two generations of a secret at once.
func proveReplicaKilled(ctx context.Context, w *world) (report.Figure, error) {
	later := w.tasks["later-1"]
	var took time.Duration
	t, err := w.underLoad(ctx, w.tasks["frontend"].Host, "load-replica-killed", laterURL, loadRate, func() error {
		before, err := w.leafOf(ctx, later, "-serial")
		if err != nil {
			return err
		}
		if _, err := w.cloud.ask(ctx, "POST", "/faults", "operation=IssueCertificate,latency=3s,times=1"); err != nil {
			return err
		}
		start := time.Now()
		asked := make(chan error, 1)
		go func() { _, err := w.act(ctx, "rotate?service=later.demo"); asked <- err }()
		if err := evidence.Pause(ctx, time.Second); err != nil {
			return err
		}
		w.serve.Kill()
		if err := <-asked; err == nil {
			return errors.New("the rotation had ended before the replica was killed")
		}
		err = poll.Until(ctx, patience, func() error {
			if _, err := w.actOn(ctx, w.cloud.second, "data-2", "rotate?service=later.demo"); err != nil {
				return errors.Join(err, evidence.Pause(ctx, time.Second))
			}
			after, err := w.leafOf(ctx, later, "-serial")
			if err == nil && after == before {
				err = fmt.Errorf("%s is still on the wire", after)
			}
			return err
		})
		took = time.Since(start)
		if err != nil {
			return err
		}
		return w.startControl(ctx)
	})
	return report.Figure{Value: float64(t.Failed), Unit: "failed", Detail: fmt.Sprintf("of %d requests; the other replica had the new serial on the wire after %.1f s", t.Sent, took.Seconds())}, err
}

// proveIssuedOnce holds the certificates that the CA issued against those that
// there had to be, however many replicas wanted each.
func proveIssuedOnce(ctx context.Context, w *world) (report.Figure, error) {
	calls, err := w.cloud.calls(ctx)
	if err != nil {
		return report.Figure{}, err
	}
	issued := calls["IssueCertificate"]
	if issued != tlsServices+rotations {
		err = fmt.Errorf("the CA issued %d certificates for %d services with TLS and %d rotations", issued, tlsServices, rotations)
	}
	return report.Figure{Value: float64(issued), Unit: "issued", Detail: fmt.Sprintf("for %d services with TLS and %d rotations, by two replicas that both serve them", tlsServices, rotations)}, err
}

// What the proofs before have made: four services of the backends, later and
// plain; the rotations of backend and later.
const (
	tlsServices = 6
	rotations   = 2
	laterURL    = "http://later.demo:8090/"
)

func proveBill(ctx context.Context, w *world) (report.Figure, error) {
	text, err := w.cloud.ask(ctx, "GET", "/bill", "")
	if err != nil {
		return report.Figure{}, err
	}
	var lines []struct {
		What   string
		Count  int
		Dollar float64
	}
	if err := json.Unmarshal([]byte(text), &lines); err != nil {
		return report.Figure{}, err
	}
	var sum float64
	var parts []string
	for _, l := range lines {
		sum += l.Dollar
		parts = append(parts, fmt.Sprintf("%d %s", l.Count, l.What))
	}
	return report.Figure{Value: sum * 100, Unit: "cents", Detail: strings.Join(parts, ", ")}, nil
}
