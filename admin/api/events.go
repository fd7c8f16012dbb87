package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// Follow reads server-sent events of a path and hands each to do, decoded,
// until ctx ends, the control plane ends the stream, or do fails.
func Follow[E any](ctx context.Context, c *Client, path string, do func(E) error) error {
	return follow(ctx, c, http.MethodGet, path, do)
}

// FollowPost is [Follow] of what acts for as long as it is followed.
func FollowPost[E any](ctx context.Context, c *Client, path string, do func(E) error) error {
	return follow(ctx, c, http.MethodPost, path, do)
}

func follow[E any](ctx context.Context, c *Client, method, path string, do func(E) error) error {
	body, err := c.stream(ctx, method, path)
	if err != nil {
		return err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		data, is := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !is {
			continue
		}
		var e E
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("%s: the event is not understood: %w", path, err)
		}
		if err := do(e); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return lines.Err()
}

// maxEvent bounds one event.
const maxEvent = 16 << 20
