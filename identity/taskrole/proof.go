// Package taskrole proves which task of ECS, or which instance of EC2, a caller
// is, without any secret of ours: the caller signs a request to AWS STS that
// asks "who am I", the control plane sends it, and AWS answers with the role and
// the name of its session, which is that of the task or the instance. Then ECS
// is asked whether there is such a task, of that service, with that role, at
// that address; or EC2 whether there is such an instance.
//
// It owns the form of the proof, and both halves of it. It must not know
// workloads' join keys nor node certificates: that is package identity.
//
// Start reading at [Sign], then [Verifier.Verify] and [Roles.Admit].
package taskrole

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Prefix begins every proof of this kind; no join proof begins so.
const Prefix = "awsiam."

// What stands in join directories and node certificates in the place of a join
// key's id: of tasks, and of instances.
const (
	KeyID         = "task-role"
	InstanceKeyID = "instance-role"
)

// instanceID is the form of EC2's; no task of ECS is named so.
var instanceID = regexp.MustCompile(`^i-([0-9a-f]{8}|[0-9a-f]{17})$`)

// KeyIDOf is KeyID or InstanceKeyID: the kind of a caller of that name.
func KeyIDOf(task string) string {
	if instanceID.MatchString(task) {
		return InstanceKeyID
	}
	return KeyID
}

// IsKeyID reports whether a join key's id is none: it stands for a role.
func IsKeyID(id string) bool { return id == KeyID || id == InstanceKeyID }

const (
	// audienceHeader names the mesh that a proof is for, requestHeader the
	// certificate request that it goes with. Both are signed: a proof that
	// leaks is of no use at another control plane, nor with another key.
	audienceHeader = "X-Patchbay-Audience"
	requestHeader  = "X-Patchbay-Csr"

	contentType = "application/x-www-form-urlencoded; charset=utf-8"
	callerBody  = "Action=GetCallerIdentity&Version=2011-06-15"
	maxProof    = 16 << 10
)

// signed is what a proof holds. The method, the path and the query are not in
// it: there is one of each.
type signed struct {
	Host    string            `json:"host"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// Host is that of AWS STS in a region.
func Host(region string) string {
	if strings.HasPrefix(region, "cn-") {
		return "sts." + region + ".amazonaws.com.cn"
	}
	return "sts." + region + ".amazonaws.com"
}

// digest binds a proof to a certificate request.
func digest(csrDER []byte) string {
	sum := sha256.Sum256(csrDER)
	return hex.EncodeToString(sum[:])
}

// Sign makes a proof for a certificate request, good for some minutes from
// now, with the credentials of the caller's role. endpoint is empty for AWS's own
// STS. It calls nobody.
func Sign(ctx context.Context, creds aws.CredentialsProvider, region, endpoint, audience string, csrDER []byte) (string, error) {
	c, err := creds.Retrieve(ctx)
	if err != nil {
		return "", fmt.Errorf("credentials of the role: %w", err)
	}
	host := Host(region)
	if endpoint != "" {
		u, err := url.Parse(endpoint)
		if err != nil {
			return "", fmt.Errorf("STS endpoint: %w", err)
		}
		host = u.Host
	}
	r := &http.Request{
		Method: http.MethodPost, Host: host, URL: &url.URL{Scheme: "https", Host: host, Path: "/"}, ContentLength: int64(len(callerBody)),
		Header: http.Header{"Content-Type": {contentType}, audienceHeader: {audience}, requestHeader: {digest(csrDER)}},
	}
	sum := sha256.Sum256([]byte(callerBody))
	if err := v4.NewSigner().SignHTTP(ctx, c, r, hex.EncodeToString(sum[:]), "sts", region, time.Now()); err != nil {
		return "", fmt.Errorf("sign the proof: %w", err)
	}
	s := signed{Host: host, Body: callerBody, Headers: map[string]string{}}
	for name, v := range r.Header {
		s.Headers[name] = v[0]
	}
	text, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	return Prefix + base64.RawURLEncoding.EncodeToString(text), nil
}
