package join

import (
	"context"
	"errors"
	"fmt"
	"os"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"patchbay/identity/taskrole"
)

// proof makes the proof that goes with a certificate request: of the join key,
// or of the AWS role of the task or the instance.
func (d *Dir) proof(ctx context.Context, csrDER []byte) (string, error) {
	if !d.ByRole() {
		return d.Proof(csrDER)
	}
	var options []func(*awsconfig.LoadOptions) error
	if d.ByInstance() { // elsewhere nobody may answer
		options = append(options, awsconfig.WithEC2IMDSRegion())
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return "", fmt.Errorf("AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return "", errors.New("the AWS region is not known: set AWS_REGION")
	}
	return taskrole.Sign(ctx, cfg.Credentials, cfg.Region, os.Getenv("AWS_ENDPOINT_URL_STS"), Audience(d.TrustDomain), csrDER)
}
