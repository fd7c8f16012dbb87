package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// DefaultAddress is where the control plane answers on its own machine.
const DefaultAddress = "http://127.0.0.1:18002"

// maxAnswer bounds what is read of one answer.
const maxAnswer = 256 << 20

// Client asks a control plane. It is safe for concurrent use.
type Client struct {
	address string // as given
	base    string
	token   string
	http    *http.Client
}

// Unreachable is an error of a control plane that does not answer, or of something
// else that does in its place.
type Unreachable struct {
	Address string
	Err     error
}

func (e *Unreachable) Error() string {
	return fmt.Sprintf("no control plane at %s: %v", e.Address, e.Err)
}

func (e *Unreachable) Unwrap() error { return e.Err }

// Denied is an error of one that does not know the token.
type Denied struct{ Address, Text string }

func (e *Denied) Error() string { return e.Address + ": " + e.Text }

// Declined is an error of one that answers, and does not do what it is asked.
// Status is that of HTTP, Text its reason.
type Declined struct {
	Status int
	Text   string
}

func (e *Declined) Error() string { return e.Text }

// ForNow reports whether the same may be done later: what is wrong is not the
// request.
func (e *Declined) ForNow() bool {
	return e.Status != http.StatusBadRequest && e.Status != http.StatusNotFound
}

// New makes a client of the control plane at address, which is http://HOST:PORT,
// https://HOST:PORT or unix:PATH (unix:///PATH is the same). An empty token is not sent.
func New(address, token string) (*Client, error) {
	transport := &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second}
	c := &Client{address: address, base: strings.TrimSuffix(address, "/"), token: token, http: &http.Client{Transport: transport}}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		path = strings.TrimPrefix(path, "//") // as a URL
		c.base = "http://localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return c, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("control plane %q; allowed: http://HOST:PORT, https://HOST:PORT or unix:PATH", address)
	}
	return c, nil
}

// Get reads GET /api/v1/PART?QUERY into v.
func (c *Client) Get(ctx context.Context, part string, query url.Values, v any) error {
	return c.do(ctx, http.MethodGet, part, query, v)
}

// Post does POST /api/v1/ACTION?QUERY and reads its answer into v.
func (c *Client) Post(ctx context.Context, action string, query url.Values, v any) error {
	return c.do(ctx, http.MethodPost, action, query, v)
}

// Ask does POST /api/v1/QUESTION with a body, as JSON, and reads the answer into
// v.
func (c *Client) Ask(ctx context.Context, question string, body, v any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("ask the control plane: %w", err)
	}
	resp, err := c.sendBody(ctx, http.MethodPost, "/api/v1/"+question, bytes.NewReader(b))
	if err != nil {
		return err
	}
	return c.decode(resp, question, v)
}

func (c *Client) do(ctx context.Context, method, part string, query url.Values, v any) error {
	path := "/api/v1/" + part
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	resp, err := c.send(ctx, method, path)
	if err != nil {
		return err
	}
	return c.decode(resp, part, v)
}

func (c *Client) decode(resp *http.Response, part string, v any) error {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: %w", part, err)
	}
	if resp.StatusCode != http.StatusOK {
		return c.refused(resp, body)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return &Unreachable{c.address, fmt.Errorf("what answers there is not its admin interface, or one of another version: %s: %w", part, err)}
	}
	return nil
}

// Raw reads any path, such as /metrics, as it is.
func (c *Client) Raw(ctx context.Context, path string) ([]byte, error) {
	resp, err := c.send(ctx, http.MethodGet, path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = c.refused(resp, body)
	}
	return body, err
}

// Stream opens a path whose answer does not end; the caller closes it.
func (c *Client) Stream(ctx context.Context, path string) (io.ReadCloser, error) {
	return c.stream(ctx, http.MethodGet, path)
}

func (c *Client) stream(ctx context.Context, method, path string) (io.ReadCloser, error) {
	resp, err := c.send(ctx, method, path)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16)) //nolint:errcheck // the status says enough
		resp.Body.Close()
		return nil, c.refused(resp, body)
	}
	return resp.Body, nil
}

func (c *Client) send(ctx context.Context, method, path string) (*http.Response, error) {
	return c.sendBody(ctx, method, path, nil)
}

func (c *Client) sendBody(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("ask the control plane: %w", err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if in, ok := errors.AsType[*url.Error](err); ok {
			err = in.Err
		}
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, &Unreachable{c.address, err}
	}
	return resp, nil
}

func (c *Client) refused(resp *http.Response, body []byte) error {
	var e struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &e) != nil || e.Error == "" {
		return &Unreachable{c.address, fmt.Errorf("what answers there, with %s, is not its admin interface", resp.Status)}
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return &Denied{c.address, e.Error}
	}
	return &Declined{resp.StatusCode, e.Error}
}
