package load

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"patchbay/bench"
)

// Saturate calls address as fast as answers come, with 64 requests in flight,
// and returns how many there were. Ordinary tools do it: wrk, h2load, fortio.
func Saturate(ctx context.Context, o bench.Options, protocol, address string, d time.Duration) (requests float64, err error) {
	seconds := fmt.Sprintf("%d", max(1, int(d.Seconds())))
	switch protocol {
	case "http":
		return run(ctx, wrkLines, "wrk", "-t2", "-c64", "-d"+seconds+"s", "http://"+address+"/")
	case "http2":
		return run(ctx, h2loadLines, "h2load", "-c4", "-m16", "-D"+seconds+"s", "--warm-up-time=100ms", "http://"+address+"/")
	case "grpc":
		file := filepath.Join(o.Dir, "grpc-message")
		if err := os.WriteFile(file, grpcMessage(), 0o600); err != nil {
			return 0, err
		}
		return run(ctx, h2loadLines, "h2load", "-c4", "-m16", "-D"+seconds+"s", "--warm-up-time=100ms", "-d", file,
			"-H", "content-type: application/grpc", "-H", "te: trailers", "http://"+address+grpcPath)
	}
	return fortio(ctx, o, address, d)
}

// Exactly makes n requests on 8 connections.
func Exactly(ctx context.Context, o bench.Options, protocol, address string, n int) error {
	args := []string{"-n", strconv.Itoa(n), "-c", "8", "-m", "1", "http://" + address + "/"}
	switch protocol {
	case "tcp":
		out, err := exec.CommandContext(ctx, filepath.Join(o.Tools, "fortio"), "load", "-quiet", "-qps", "0", "-c", "8", "-n", strconv.Itoa(n), //nolint:gosec // a tool
			"-payload-size", strconv.Itoa(BodySize), "-timeout", "60s", "tcp://"+address).CombinedOutput()
		if err != nil {
			return fmt.Errorf("fortio: %w: %s", err, out)
		}
		return nil
	case "http":
		args = append([]string{"--h1"}, args...)
	case "grpc":
		file := filepath.Join(o.Dir, "grpc-message")
		if err := os.WriteFile(file, grpcMessage(), 0o600); err != nil {
			return err
		}
		args = []string{"-n", strconv.Itoa(n), "-c", "8", "-m", "1", "-d", file, "-H", "content-type: application/grpc", "-H", "te: trailers", "http://" + address + grpcPath}
	}
	_, err := run(ctx, h2loadLines, "h2load", args...)
	return err
}

// lines find the figures in what a tool prints.
type lines struct {
	requests *regexp.Regexp // its first group is the number of requests with an answer
	failed   *regexp.Regexp // its groups are numbers of failures; no match means none
	bytes    *regexp.Regexp // its first group are the bytes of the answers' bodies
}

var (
	wrkLines = lines{
		requests: regexp.MustCompile(`(\d+) requests in`),
		failed:   regexp.MustCompile(`(?:Non-2xx or 3xx responses: (\d+))|(?:Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+))`),
	}
	h2loadLines = lines{
		requests: regexp.MustCompile(`requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded`),
		failed:   regexp.MustCompile(`(\d+) failed, (\d+) errored, (\d+) timeout`),
		bytes:    regexp.MustCompile(`\((\d+)\) data`),
	}
)

// run runs a tool.
func run(ctx context.Context, l lines, tool string, args ...string) (float64, error) {
	cmd := exec.CommandContext(ctx, tool, args...) //nolint:gosec // one of two tools
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", tool, err, out)
	}
	return l.read(tool, out)
}

// read finds the number of requests. A failed one makes the measurement
// worthless, so it is an error; so is an answer without its body, which is how
// gRPC fails.
func (l lines) read(tool string, out []byte) (float64, error) {
	m := l.requests.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s prints no number of requests: %s", tool, out)
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s made no request: %s", tool, out)
	}
	for _, m := range l.failed.FindAllSubmatch(out, -1) {
		for _, g := range m[1:] {
			if len(g) > 0 && string(g) != "0" {
				return 0, fmt.Errorf("%s: requests failed: %s", tool, out)
			}
		}
	}
	if l.bytes != nil {
		m := l.bytes.FindSubmatch(out)
		if m == nil {
			return 0, fmt.Errorf("%s prints no number of bytes: %s", tool, out)
		}
		if data, _ := strconv.ParseFloat(string(m[1]), 64); data < n*BodySize*0.99 {
			return 0, fmt.Errorf("%s: answers lack their bodies: %s", tool, out)
		}
	}
	return n, nil
}

func fortio(ctx context.Context, o bench.Options, address string, d time.Duration) (float64, error) {
	file := filepath.Join(o.Dir, "fortio.json")
	cmd := exec.CommandContext(ctx, filepath.Join(o.Tools, "fortio"), "load", "-quiet", "-qps", "0", "-c", "64", "-t", d.String(), //nolint:gosec // a tool
		"-payload-size", strconv.Itoa(BodySize), "-json", file, "tcp://"+address)
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("fortio: %w: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	var r struct{ RetCodes map[string]float64 }
	if err := json.Unmarshal(b, &r); err != nil {
		return 0, fmt.Errorf("fortio's report: %w", err)
	}
	if len(r.RetCodes) != 1 || r.RetCodes["OK"] == 0 {
		return 0, fmt.Errorf("fortio: requests failed: %v", r.RetCodes)
	}
	return r.RetCodes["OK"], nil
}
