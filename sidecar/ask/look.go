package ask

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/agentapi"
)

// see gathers what was asked for. A page that can't be had is an entry among
// the errors.
func (d *Desk) see(ctx context.Context, l *agentapi.Look) (*agentapi.Seen, error) { //nolint:unparam // the form of every answer
	s := &agentapi.Seen{At: time.Now().UTC(), Pages: map[string]json.RawMessage{}, Errors: map[string]string{}}
	var silent error // an Envoy that hangs is asked once, not once for each page
	for _, name := range l.GetPages() {
		var b []byte
		err := silent
		if err == nil {
			b, err = d.admin.Page(ctx, name, l.GetStats())
		}
		if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
			silent = err
		}
		if err == nil && !json.Valid(b) {
			err = errors.New("Envoy's answer is no JSON")
		}
		if err != nil {
			s.Errors[name] = err.Error()
			continue
		}
		s.Pages[name] = b
	}
	if !l.GetTask() {
		return s, nil
	}
	var err error
	if s.Hosts, err = hostLines(d.hosts); err != nil {
		s.Errors["hosts"] = err.Error()
	}
	if s.Listening, err = listening(); err != nil {
		s.Errors["listening"] = err.Error()
	}
	return s, nil
}

func hostLines(path string) ([]agentapi.HostLine, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("hosts file: %w", err)
	}
	defer f.Close()
	var out []agentapi.HostLine
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if words := strings.Fields(line); len(words) > 1 {
			out = append(out, agentapi.HostLine{Address: words[0], Names: words[1:]})
		}
	}
	return out, lines.Err()
}

// listening lists the sockets of the task's network namespace that take
// connections.
func listening() ([]string, error) {
	var out []string
	var errs []error
	for _, path := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		for line := range strings.Lines(string(b)) {
			const listen = "0A"
			if f := strings.Fields(line); len(f) > 3 && f[3] == listen {
				if addr, err := socketAddr(f[1]); err == nil {
					out = append(out, addr.String())
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), errors.Join(errs...)
}

// socketAddr reads the kernel's form: words of four bytes in the machine's
// order (little-endian on everything that Envoy runs on), then the port.
func socketAddr(text string) (netip.AddrPort, error) {
	ip, portText, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(ip)
	if err != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("socket address %q", text)
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	addr, ok := netip.AddrFromSlice(b)
	port, err := strconv.ParseUint(portText, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("socket address %q", text)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// visit resolves the name as the application does, connects and asks.
func (d *Desk) visit(ctx context.Context, out *agentapi.Outcome) error {
	u, err := url.Parse(out.URL)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	dial := func(ctx context.Context, _, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		ip, err := d.resolve(ctx, host)
		if err != nil {
			return nil, err
		}
		out.Resolved = ip
		return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(ip, port))
	}
	if u.Scheme == "tcp" {
		return visitTCP(ctx, u.Host, dial)
	}
	client := &http.Client{
		Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true, DialContext: dial},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, out.URL, nil)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	req.Header.Set("User-Agent", "patchbay-explain")
	resp, err := client.Do(req)
	if err != nil {
		if in, ok := errors.AsType[*url.Error](err); ok {
			err = in.Err
		}
		return err
	}
	defer resp.Body.Close()
	out.Status = resp.StatusCode
	out.Body = discard(resp.Body)
	out.Envoy = out.Body != ""
	return nil
}

// linger is how long a connection that carries nothing must last: a sidecar
// that can't reach its service closes it before.
const linger = 300 * time.Millisecond

func visitTCP(ctx context.Context, address string, dial func(context.Context, string, string) (net.Conn, error)) error {
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(linger)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	if n, ok := errors.AsType[net.Error](err); err == nil || ok && n.Timeout() {
		return nil
	}
	return fmt.Errorf("the sidecar closed the connection: %w", err)
}

// resolve asks the hosts file that the applications read, then the system.
func (d *Desk) resolve(ctx context.Context, host string) (string, error) {
	if _, err := netip.ParseAddr(host); err == nil {
		return host, nil
	}
	lines, err := hostLines(d.hosts)
	if err != nil {
		return "", err
	}
	for _, l := range lines {
		if slices.ContainsFunc(l.Names, func(n string) bool { return strings.EqualFold(n, host) }) {
			return l.Address, nil
		}
	}
	all, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return "", err
	}
	return all[0], nil
}
