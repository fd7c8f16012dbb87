package secretsmanager

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"patchbay/pki/secret"
)

// Staging labels.
const (
	awsCurrent = "AWSCURRENT"
	awsPending = "AWSPENDING"
)

// awsKey is the KMS key that Secrets Manager takes when it is told none.
const awsKey = "alias/aws/secretsmanager"

// envelope is what a version holds. Its fields are a contract between
// replicas of different versions: add, never change.
type envelope struct {
	Version    int    `json:"version"` // 1
	Name       string `json:"name"`
	Generation uint64 `json:"generation"`
	Prepared   bool   `json:"prepared,omitempty"`
	For        string `json:"for,omitempty"`
	// Paced is when the next generation would come if all came at the
	// interval; it runs ahead of the clock when they come faster.
	Paced time.Time `json:"paced,omitzero"`
	// KMSKey is the key that was asked for with this version.
	KMSKey string `json:"kmsKey,omitempty"`
	Value  []byte `json:"value"`
}

// version is one to be written, or one that was read.
type version struct {
	id string
	envelope
	created time.Time // by AWS's clock; zero: not yet
}

// current is what a secret's label AWSCURRENT is on.
type current struct {
	exists     bool   // the secret is there, perhaps without a version
	id         string // of the version; empty: none
	generation uint64 // 0: none that was saved
	value      []byte
	paced      time.Time
	kmsKey     string // that was asked for
	corrupt    error
}

// current reads the secret of a name. That none is there is no error.
func (s *Store) current(ctx context.Context, name string) (current, error) {
	id := s.id(name)
	out, err := s.api.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: &id, VersionStage: aws.String(awsCurrent)})
	if is[*types.ResourceNotFoundException](err) {
		return current{}, nil // or a secret without a version: creating it will tell
	}
	if err != nil {
		return current{}, s.explain("GetSecretValue", name, "", err)
	}
	cur := current{exists: true, id: aws.ToString(out.VersionId)}
	v, err := parse(out, name)
	switch {
	case err != nil:
		cur.corrupt = err
	case !v.Prepared:
		cur.generation, cur.value, cur.paced = v.Generation, v.Value, v.Paced
	}
	cur.kmsKey = v.KMSKey
	return cur, nil
}

// version reads one by its id.
func (s *Store) version(ctx context.Context, name, versionID string) (version, error) {
	id := s.id(name)
	out, err := s.api.GetSecretValue(ctx, &sm.GetSecretValueInput{SecretId: &id, VersionId: &versionID})
	if err != nil {
		return version{}, s.explain("GetSecretValue", name, "", err)
	}
	e, err := parse(out, name)
	return version{versionID, e, aws.ToTime(out.CreatedDate)}, err
}

// appearing reads a version that is there, even if reads don't show it yet.
func (s *Store) appearing(ctx context.Context, name, versionID string) (version, error) {
	for {
		v, err := s.version(ctx, name, versionID)
		if !is[*types.ResourceNotFoundException](err) {
			return v, err
		}
		timer := time.NewTimer(200 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return version{}, errors.Join(ctx.Err(), err)
		}
	}
}

func parse(out *sm.GetSecretValueOutput, name string) (envelope, error) {
	var e envelope
	if err := json.Unmarshal([]byte(aws.ToString(out.SecretString)), &e); err != nil {
		return e, errors.New("it is not what was stored: no JSON of this store") // the cause may quote the value
	}
	if e.Version != 1 || e.Name != name || e.Generation == 0 {
		return e, fmt.Errorf("it says version %d, name %q, generation %d", e.Version, e.Name, e.Generation)
	}
	return e, nil
}

// prepared is v as the answer of a Prepare.
func (v version) prepared(e secret.Entry) (secret.Entry, bool, error) {
	e.Value = v.Value
	return e, false, nil
}

// next is the version that e becomes when it follows cur. Its id depends on
// nothing else: whoever else follows cur wants the same id.
func (s *Store) next(e secret.Entry, cur current, now time.Time) version {
	paced := cur.paced
	if paced.Before(now) {
		paced = now
	}
	return version{
		id:       versionID("saved", e.Name, e.Generation, "", cur.follow()),
		envelope: envelope{Version: 1, Name: e.Name, Generation: e.Generation, Value: e.Value, KMSKey: e.KMSKey, Paced: paced.Add(max(0, s.o.Interval)).UTC().Truncate(time.Second)},
	}
}

// pending is the version that prepares e.
func (s *Store) pending(e secret.Entry, cur current) version {
	return version{
		id:       versionID("prepared", e.Name, e.Generation, e.For, cur.follow()),
		envelope: envelope{Version: 1, Name: e.Name, Generation: e.Generation, Value: e.Value, KMSKey: e.KMSKey, Prepared: true, For: e.For, Paced: cur.paced},
	}
}

// follow is what names cur in the ids of versions after it. A version that
// only prepares the first generation is nothing to come after.
func (c current) follow() string {
	if c.generation == 0 && c.corrupt == nil {
		return ""
	}
	return c.id
}

// allowed is when the next generation may be prepared.
func (c current) allowed(interval time.Duration) time.Time {
	if interval <= 0 || c.paced.IsZero() {
		return time.Time{}
	}
	return c.paced.Add(-ahead * interval)
}

// versionID is a ClientRequestToken: 64 characters are the most.
func versionID(kind, name string, generation uint64, purpose, after string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%d\n%q\n%s", kind, name, generation, purpose, after))
	return hex.EncodeToString(sum[:])
}

func (s *Store) create(ctx context.Context, e secret.Entry, v version) error {
	id, text := s.id(e.Name), v.text()
	in := &sm.CreateSecretInput{Name: &id, ClientRequestToken: &v.id, SecretString: &text, Tags: s.tags(e.Name), Description: aws.String("patchbay: " + e.Name)}
	if key := cmp.Or(e.KMSKey, s.o.KMSKey); key != "" {
		in.KmsKeyId = &key
	}
	_, err := s.api.CreateSecret(ctx, in)
	return s.explain("CreateSecret", e.Name, e.KMSKey, err)
}

// put adds a version to a secret that is there, under the key that e asks for.
func (s *Store) put(ctx context.Context, e secret.Entry, cur *current, v version) error {
	if err := s.rekey(ctx, e, cur); err != nil {
		return err
	}
	id, text := s.id(e.Name), v.text()
	_, err := s.api.PutSecretValue(ctx, &sm.PutSecretValueInput{SecretId: &id, ClientRequestToken: &v.id, SecretString: &text, VersionStages: []string{awsPending}})
	return s.explain("PutSecretValue", e.Name, e.KMSKey, err)
}

// rekey puts a secret under another key than was asked for with the version
// that is current. Where none is asked for any more that is the store's own.
func (s *Store) rekey(ctx context.Context, e secret.Entry, cur *current) error {
	if e.KMSKey == cur.kmsKey {
		return nil
	}
	id, key := s.id(e.Name), cmp.Or(e.KMSKey, s.o.KMSKey, awsKey)
	if _, err := s.api.UpdateSecret(ctx, &sm.UpdateSecretInput{SecretId: &id, KmsKeyId: &key}); err != nil {
		return s.explain("UpdateSecret", e.Name, e.KMSKey, err)
	}
	cur.kmsKey = e.KMSKey
	return nil
}

// promote moves AWSCURRENT to a version, from one; empty: from none.
func (s *Store) promote(ctx context.Context, name, to, from string) error {
	id := s.id(name)
	in := &sm.UpdateSecretVersionStageInput{SecretId: &id, VersionStage: aws.String(awsCurrent), MoveToVersionId: &to}
	if from != "" {
		in.RemoveFromVersionId = &from
	}
	_, err := s.api.UpdateSecretVersionStage(ctx, in)
	return s.explain("UpdateSecretVersionStage", name, "", err)
}

func (v version) text() string {
	b, err := json.Marshal(v.envelope)
	if err != nil {
		panic(err) // strings, numbers and bytes
	}
	return string(b)
}
