// Package ec2 is what a machine learns from EC2 about itself: the instance
// metadata service, version 2.
//
// It owns how long an answer is waited for. What is said there is not proved:
// it is never taken for an identity, but names what the machine then proves by
// its role. It must not know the control plane. Start reading at [Wait].
package ec2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/cenkalti/backoff/v5"
)

// ErrMetadata is matched by every error of this package: the service does not
// answer, or this is no instance.
var ErrMetadata = errors.New("instance metadata (IMDSv2)")

const (
	// startTime is how long a first answer is waited for: the service is up
	// before the machine is, so that more is a fault to be told.
	startTime = 20 * time.Second
	// maxAnswer is far above an id's length.
	maxAnswer  = 256
	retryFirst = 200 * time.Millisecond
	retryMost  = 2 * time.Second
)

// Instance is the machine.
type Instance struct {
	ID     string // i-…
	ZoneID string // of its availability zone, such as "euw1-az2"; empty: not said
}

// Wait asks until there is a good answer, for at most 20 s. Its error says what
// is wrong with the last one; or it is ctx's cause.
func Wait(ctx context.Context, log *slog.Logger) (Instance, error) {
	cfg, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return Instance{}, fmt.Errorf("AWS configuration: %w", err)
	}
	client := imds.NewFromConfig(cfg, func(o *imds.Options) { o.EnableFallback = aws.FalseTernary })
	limited, stop := context.WithTimeout(ctx, startTime)
	defer stop()
	told := ""
	var last error
	i, err := backoff.Retry(limited, func() (Instance, error) {
		i, err := read(limited, client)
		if err != nil && (last == nil || limited.Err() == nil) { // not "deadline exceeded", which says nothing
			last = err
		}
		return i, err
	},
		backoff.WithBackOff(&backoff.ExponentialBackOff{InitialInterval: retryFirst, MaxInterval: retryMost, Multiplier: 2, RandomizationFactor: 0.3}),
		backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
			if err.Error() != told {
				told = err.Error()
				log.WarnContext(ctx, "waiting for the instance's metadata", "error", told)
			}
		}))
	switch {
	case ctx.Err() != nil:
		return i, context.Cause(ctx)
	case err != nil:
		return i, fmt.Errorf("%w, after %s; a machine that joins by the role of its instance needs it (HttpEndpoint of its metadata options)", last, startTime)
	}
	return i, nil
}

func read(ctx context.Context, client *imds.Client) (Instance, error) {
	id, err := get(ctx, client, "instance-id")
	if err != nil {
		return Instance{}, err
	}
	if !strings.HasPrefix(id, "i-") {
		return Instance{}, fmt.Errorf("%w: instance-id: %.40q; allowed: i-…", ErrMetadata, id)
	}
	zone, err := get(ctx, client, "placement/availability-zone-id")
	if err != nil {
		zone = "" // older services don't have it, and nothing depends on it
	}
	return Instance{id, zone}, nil
}

func get(ctx context.Context, client *imds.Client, path string) (string, error) {
	out, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrMetadata, path, err)
	}
	defer out.Content.Close()
	text, err := io.ReadAll(io.LimitReader(out.Content, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrMetadata, path, err)
	}
	return strings.TrimSpace(string(text)), nil
}
