package join

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"patchbay/identity/taskrole"
)

// proof makes the proof that goes with a certificate request: of the join key,
// or of the task's AWS role.
func (d *Dir) proof(ctx context.Context, csrDER []byte) (string, error) {
	if !d.ByRole() {
		return d.Proof(csrDER)
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return "", fmt.Errorf("AWS configuration of the task: %w", err)
	}
	if cfg.Region == "" {
		return "", errors.New("the task's AWS region is not known: set AWS_REGION")
	}
	return taskrole.Sign(ctx, cfg.Credentials, cfg.Region, os.Getenv("AWS_ENDPOINT_URL_STS"), Audience(d.TrustDomain), csrDER)
}

// metadataVar is where ECS tells a container about its task (task metadata
// endpoint version 4).
const metadataVar = "ECS_CONTAINER_METADATA_URI_V4"

var taskARN = regexp.MustCompile(`^arn:aws[a-z-]*:ecs:[a-z0-9-]+:[0-9]{12}:task/(?:[A-Za-z0-9_-]+/)?([0-9a-zA-Z-]{1,64})$`)

// ECSTask is the id of the ECS task that this process is in; empty where there
// is none.
func ECSTask(ctx context.Context) (string, error) {
	base := os.Getenv(metadataVar)
	if base == "" {
		return "", nil
	}
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/task", nil)
	if err != nil {
		return "", fmt.Errorf("%s: %w", metadataVar, err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", fmt.Errorf("metadata of the task: %w", err)
	}
	defer resp.Body.Close()
	var task struct{ TaskARN string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&task); err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("metadata of the task: %s, %w", resp.Status, err)
	}
	m := taskARN.FindStringSubmatch(task.TaskARN)
	if m == nil {
		return "", fmt.Errorf("metadata of the task: its ARN is %.200q", task.TaskARN)
	}
	return m[1], nil
}
