package controlplane

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"patchbay/discovery"
	"patchbay/discovery/events"
)

// buildHints makes what tells of changes besides polling: events of ECS, and
// the other replicas.
func (c *control) buildHints(ctx context.Context, endpoint string, cfg aws.Config, d *discovery.Config) error {
	if c.cfg.CloudMap != nil && c.cfg.CloudMap.Events != nil {
		if err := c.buildEvents(ctx, d); err != nil {
			return err
		}
	}
	return c.buildReplicas(endpoint, cfg, d)
}

func (c *control) buildEvents(ctx context.Context, d *discovery.Config) error {
	e := c.cfg.CloudMap.Events
	cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithAppID("patchbay"))
	if err != nil {
		return fmt.Errorf("AWS configuration: %w", err)
	}
	if e.Region != "" {
		cfg.Region = e.Region
	}
	client := sqs.NewFromConfig(cfg, func(o *sqs.Options) {
		if e.Endpoint != "" {
			o.BaseEndpoint = &e.Endpoint
		}
		o.RetryMaxAttempts = 1 // the queue has a schedule of its own
	})
	c.queue = events.New(events.Options{
		QueueURL: e.QueueURL, Log: c.log, Called: d.Metrics.Called,
		Changed: func(t events.Task) { c.discovery.TaskChanged(t.Service, t.ID, t.Stopping()) },
	}, client)
	d.Events = c.queue.Standing
	return nil
}
