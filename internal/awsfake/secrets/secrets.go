// Package secrets stands in for AWS Secrets Manager: secrets, their versions
// and staging labels, by AWS's rules.
//
// It owns what an operation means. It must not know the protocol (wire) nor
// patchbay. Rotation by Lambda, replication and resource policies are left
// out; see docs/decisions/004-stand-ins-for-aws.md.
//
// Start reading at [Secrets.API], then version.go.
package secrets

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"patchbay/internal/awsfake/wire"
)

// Options of a [Secrets].
type Options struct {
	// Lag is how long reads still show what was there before a write.
	Lag time.Duration
	// FirstIsCurrent attaches AWSCURRENT to the first version of a secret
	// whatever labels were asked for.
	FirstIsCurrent bool
	// Keys are the KMS keys that exist; nil: any does, by whatever name.
	Keys []Key
}

// Secrets holds the secrets of all accounts. It is safe for concurrent use.
type Secrets struct {
	o        Options
	disabled sync.Map // ARN of a KMS key → whether it is

	mu  sync.Mutex
	all map[string]*secret // by account and name
}

// New is empty.
func New(o Options) *Secrets { return &Secrets{o: o, all: map[string]*secret{}} }

// secret is one, with all its versions.
type secret struct {
	arn, name, description, kms, kind string

	tags      []tag
	versions  map[string]*version // by id
	created   time.Time
	changed   time.Time
	deleteAt  time.Time // zero: not scheduled
	deletedAt time.Time

	before *secret // as it was before the last write, for reads that lag
}

// version is immutable but for its labels.
type version struct {
	id      string
	value   value
	stages  []string
	created time.Time
	kms     string
}

type value struct {
	text   *string
	binary []byte
}

func (v value) equal(o value) bool {
	return (v.text == nil) == (o.text == nil) && (v.text == nil || *v.text == *o.text) && string(v.binary) == string(o.binary)
}

// Staging labels that AWS itself moves.
const (
	current  = "AWSCURRENT"
	previous = "AWSPREVIOUS"
)

// Quotas that AWS documents.
const (
	maxVersions = 100
	keepAtLeast = 24 * time.Hour // a younger version is never removed
	maxValue    = 65536
	maxLabels   = 20
)

// API is the service to be served, with the rates that AWS documents.
func (s *Secrets) API() wire.Service {
	return wire.Service{
		Signing: "secretsmanager", Target: "secretsmanager.", Text: "Message",
		Rates: map[string]float64{
			"CreateSecret": 50, "write": 50, "DescribeSecret": 40_000, "GetSecretValue": 10_000,
			"DeleteSecret": 50, "RestoreSecret": 50, "ListSecretVersionIds": 50, "ListSecrets": 100, "tags": 50,
		},
		Operations: map[string]wire.Operation{
			"CreateSecret":             wire.Op("CreateSecret", s.create),
			"PutSecretValue":           wire.Op("write", s.put),
			"UpdateSecret":             wire.Op("write", s.update),
			"UpdateSecretVersionStage": wire.Op("write", s.move),
			"GetSecretValue":           wire.Op("GetSecretValue", s.get),
			"DescribeSecret":           wire.Op("DescribeSecret", s.describe),
			"ListSecretVersionIds":     wire.Op("ListSecretVersionIds", s.listVersions),
			"ListSecrets":              wire.Op("ListSecrets", s.list),
			"DeleteSecret":             wire.Op("DeleteSecret", s.remove),
			"RestoreSecret":            wire.Op("RestoreSecret", s.restore),
			"TagResource":              wire.Op("tags", s.tag),
			"UntagResource":            wire.Op("tags", s.untag),
		},
	}
}

var secretName = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{1,512}$`)

// find is the secret of a name or an ARN, whole or without its suffix, for a
// caller who may do this to it. s.mu is held.
func (s *Secrets) find(c *wire.Call, id string) (*secret, error) {
	if id == "" {
		return nil, wire.Invalid(wire.Required(&struct{ SecretId string }{}, "SecretId")...)
	}
	sec := s.all[c.Principal.Account+"/"+id]
	for _, x := range s.all {
		if sec == nil && (x.arn == id || strings.HasPrefix(id, "arn:") && strings.HasPrefix(x.arn, id+"-")) {
			sec = x
		}
	}
	arn := id
	if sec != nil {
		arn = sec.arn
		for _, t := range sec.tags {
			c.Context["aws:ResourceTag/"+t.Key] = t.Value
		}
	} else if !strings.HasPrefix(id, "arn:") {
		arn = fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:%s", c.Region, c.Principal.Account, id)
	}
	if err := c.May(arn, "secretsmanager:SecretId", arn); err != nil {
		return nil, err
	}
	if sec == nil || !sec.deleteAt.IsZero() && time.Now().After(sec.deleteAt) {
		return nil, wire.Fail("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	}
	return sec, nil
}

// open is find for what a secret that waits for its deletion refuses.
func (s *Secrets) open(c *wire.Call, id string) (*secret, error) {
	sec, err := s.find(c, id)
	if err == nil && !sec.deleteAt.IsZero() {
		return nil, wire.Fail("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion.")
	}
	return sec, err
}

// seen is a secret as a read sees it now.
func (s *Secrets) seen(sec *secret) (*secret, error) {
	if s.o.Lag == 0 || time.Since(sec.changed) >= s.o.Lag {
		return sec, nil
	}
	if sec.before == nil {
		return nil, wire.Fail("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	}
	return sec.before, nil
}

// write keeps what was there for reads that lag, and notes the time.
func (sec *secret) write() {
	before := *sec
	before.before, before.versions = nil, map[string]*version{}
	for id, v := range sec.versions {
		c := *v
		c.stages = slices.Clone(v.stages)
		before.versions[id] = &c
	}
	before.tags = slices.Clone(sec.tags)
	sec.before, sec.changed = &before, time.Now()
}

func newARN(region, account, name string) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	suffix := make([]byte, 6)
	for i := range suffix {
		suffix[i] = letters[rand.IntN(len(letters))] //nolint:gosec // no secret
	}
	return fmt.Sprintf("arn:aws:secretsmanager:%s:%s:secret:%s-%s", region, account, name, suffix)
}

// checkToken and checkValue are the constraints on what makes a version.
func checkVersion(token string, v value, need bool) []string {
	var problems []string
	if n := len(token); n < 32 || n > 64 {
		problems = append(problems, "Value at 'clientRequestToken' failed to satisfy constraint: Member must have length between 32 and 64")
	}
	size := len(v.binary)
	if v.text != nil {
		size = len(*v.text)
	}
	switch {
	case v.text != nil && v.binary != nil:
		problems = append(problems, "You can't specify both a binary secret value and a string secret value in the same secret")
	case v.text == nil && v.binary == nil && need:
		problems = append(problems, "You must provide either SecretString or SecretBinary")
	case size > maxValue:
		problems = append(problems, fmt.Sprintf("Value at 'secretString' failed to satisfy constraint: Member must have length less than or equal to %d", maxValue))
	}
	return problems
}

func (sec *secret) sorted() []*version {
	return slices.SortedFunc(maps.Values(sec.versions), func(a, b *version) int {
		return cmp.Or(b.created.Compare(a.created), strings.Compare(a.id, b.id))
	})
}
