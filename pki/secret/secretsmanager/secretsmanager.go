// Package secretsmanager keeps secrets in AWS Secrets Manager, where all
// replicas of a control plane share them without a leader.
//
// It owns the protocol by which replicas agree: a version's id is computed
// from what it is and from the version that it follows, so that of several
// writers one succeeds and the others find out. It must not know what the
// secrets say.
//
// Start reading at [Store.Save], then version.go.
package secretsmanager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"patchbay/pki/secret"
)

// DefaultInterval is how often, in the long run, a secret may get a new
// generation, which takes two versions: Secrets Manager keeps a hundred, and
// never removes one that is younger than a day.
const DefaultInterval = 30 * time.Minute

// ahead is how many generations may come before their time: with two at once
// and one each interval, a day has 2 * (48 + 2) versions, the hundred.
const ahead = 1

// Options say where the secrets are and how they rest.
type Options struct {
	Region   string            // empty: the configuration's
	Endpoint string            // empty: AWS's own for the region
	Prefix   string            // of every name, such as "ecs-sc/prod/"; [A-Za-z0-9/_+=.@-], ends with a slash
	KMSKey   string            // id, ARN or alias/… of secrets that ask for none; empty: aws/secretsmanager
	Tags     map[string]string // of every secret, besides managed-by
	Interval time.Duration     // 0: DefaultInterval; negative: none
	Timeout  time.Duration     // of one operation, retries included; 0: 10 s
}

var prefixForm = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{0,200}/$`)

// validPrefix reports whether s can come before every name.
func validPrefix(s string) bool { return prefixForm.MatchString(s) }

// API is the part of Secrets Manager that this package uses. The AWS SDK's
// client has it. Every call must honour its context.
type API interface {
	CreateSecret(context.Context, *sm.CreateSecretInput, ...func(*sm.Options)) (*sm.CreateSecretOutput, error)
	GetSecretValue(context.Context, *sm.GetSecretValueInput, ...func(*sm.Options)) (*sm.GetSecretValueOutput, error)
	PutSecretValue(context.Context, *sm.PutSecretValueInput, ...func(*sm.Options)) (*sm.PutSecretValueOutput, error)
	UpdateSecret(context.Context, *sm.UpdateSecretInput, ...func(*sm.Options)) (*sm.UpdateSecretOutput, error)
	UpdateSecretVersionStage(context.Context, *sm.UpdateSecretVersionStageInput, ...func(*sm.Options)) (*sm.UpdateSecretVersionStageOutput, error)
}

// Store is a [secret.Store]. It is safe for concurrent use.
type Store struct {
	o   Options
	api API

	mu   sync.Mutex
	work map[string]current // what was prepared follows, by name: reads may lag behind our own writes
}

// New touches nothing outside.
func New(cfg aws.Config, o Options) (*Store, error) {
	if !validPrefix(o.Prefix) {
		return nil, fmt.Errorf("prefix: %q; allowed: up to 200 of [A-Za-z0-9/_+=.@-] and a slash at the end, such as ecs-sc/prod/", o.Prefix)
	}
	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	return &Store{o: o, work: map[string]current{}, api: sm.NewFromConfig(cfg, func(opt *sm.Options) {
		opt.Region = cmp.Or(o.Region, opt.Region)
		if o.Endpoint != "" {
			opt.BaseEndpoint = &o.Endpoint
		}
		// Fifty writes a second are for all secrets of the account: whoever
		// waits its turn is in no hurry.
		opt.Retryer = retry.NewStandard(func(r *retry.StandardOptions) { r.MaxAttempts, r.MaxBackoff = 8, 2*time.Second })
	})}, nil
}

// Load implements [secret.Store].
func (s *Store) Load(ctx context.Context, name string) (secret.Entry, error) {
	ctx, stop := context.WithTimeout(ctx, s.o.Timeout)
	defer stop()
	cur, err := s.current(ctx, name)
	switch {
	case err != nil:
		return secret.Entry{}, fmt.Errorf("load secret %s: %w", name, err)
	case cur.corrupt != nil:
		return secret.Entry{}, fmt.Errorf("load secret %s: %w: version %s of %s: %w; it stays there, the next generation replaces it", name, secret.ErrCorrupt, cur.id, s.id(name), cur.corrupt)
	case cur.generation == 0:
		return secret.Entry{}, fmt.Errorf("load secret %s: %w", name, secret.ErrNone)
	}
	return secret.Entry{Name: name, Generation: cur.generation, Value: cur.value}, nil
}

// Save implements [secret.Store].
func (s *Store) Save(ctx context.Context, e secret.Entry) error {
	ctx, stop := context.WithTimeout(ctx, s.o.Timeout)
	defer stop()
	if err := s.save(ctx, e); err != nil {
		return fmt.Errorf("save %s: %w", e, err)
	}
	return nil
}

func (s *Store) save(ctx context.Context, e secret.Entry) error {
	cur, known := s.prepared(e)
	var err error
	if !known {
		cur, err = s.follows(ctx, e)
	}
	if err != nil {
		return err
	}
	v := s.next(e, cur, time.Now())
	if !cur.exists {
		switch err := s.create(ctx, e, v); {
		case err == nil:
			return nil // its first version is the current one
		case !is[*types.ResourceExistsException](err):
			return err
		}
		// Made by another replica, or by hand, since we looked.
		if cur, err = s.follows(ctx, e); err != nil {
			return err
		}
	}
	switch err := s.put(ctx, e, &cur, v); {
	case is[*types.ResourceExistsException](err):
		return errors.Join(secret.ErrConflict, s.finish(ctx, e.Name, v.id, cur.id)) // somebody was first
	case err != nil:
		return err
	}
	return s.settle(ctx, e, v.id, cur.id)
}

// settle makes our version the current one. The label is taken from the
// version that it follows and from no other: a writer that was asleep for a
// day can't bring back the past.
func (s *Store) settle(ctx context.Context, e secret.Entry, id, from string) error {
	err := s.promote(ctx, e.Name, id, from)
	if !is[*types.InvalidParameterException](err) {
		return err
	}
	now, err := s.current(ctx, e.Name)
	switch {
	case err != nil:
		return err
	case now.id == id: // promoted by who found it lying there
		return nil
	case now.generation+1 == e.Generation && now.id != from: // a read lagged when we looked
		return s.promote(ctx, e.Name, id, now.id)
	}
	return secret.ErrConflict
}

// prepared is what follows knew when e was prepared by this store.
func (s *Store) prepared(e secret.Entry) (current, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cur, ok := s.work[e.Name]
	delete(s.work, e.Name)
	return cur, ok && cur.generation+1 == e.Generation
}

func (s *Store) keep(name string, cur current) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cur.value = nil
	s.work[name] = cur
}

// orphaned is how long a version that follows the current one may wait for
// whoever wrote it to promote it.
const orphaned = 5 * time.Second

// finish promotes a saved version that a crash left behind.
func (s *Store) finish(ctx context.Context, name, id, from string) error {
	v, err := s.version(ctx, name, id)
	if is[*types.ResourceNotFoundException](err) || err == nil && time.Since(v.created) < orphaned {
		return nil // a read that lags, or whoever wrote it is at it
	}
	if err == nil {
		err = s.promote(ctx, name, id, from)
	}
	if is[*types.InvalidParameterException](err) {
		return nil // done already
	}
	return err
}

// Prepare implements [secret.Store].
func (s *Store) Prepare(ctx context.Context, e secret.Entry) (secret.Entry, bool, error) {
	ctx, stop := context.WithTimeout(ctx, s.o.Timeout)
	defer stop()
	out, mine, err := s.prepare(ctx, e)
	if err != nil {
		return secret.Entry{}, false, fmt.Errorf("prepare %s: %w", e, err)
	}
	return out, mine, nil
}

func (s *Store) prepare(ctx context.Context, e secret.Entry) (secret.Entry, bool, error) {
	cur, err := s.follows(ctx, e)
	if err != nil {
		return secret.Entry{}, false, err
	}
	if at := cur.allowed(s.o.Interval); time.Now().Before(at) {
		return secret.Entry{}, false, fmt.Errorf("%w: Secrets Manager keeps a hundred versions of a secret a day, so one generation in %s is allowed, the next at %s", secret.ErrTooSoon, s.o.Interval, at.UTC().Format(time.RFC3339))
	}
	v := s.pending(e, cur)
	if cur.exists {
		saved := s.next(e, cur, time.Time{}).id
		if _, err := s.version(ctx, e.Name, saved); err == nil {
			return secret.Entry{}, false, errors.Join(secret.ErrConflict, s.finish(ctx, e.Name, saved, cur.id))
		}
		if theirs, err := s.version(ctx, e.Name, v.id); err == nil {
			return theirs.prepared(e)
		}
		err = s.put(ctx, e, &cur, v)
	} else if err = s.create(ctx, e, v); err == nil {
		cur.exists, cur.id = true, v.id // its first version is the current one
	} else if is[*types.ResourceExistsException](err) {
		if cur, err = s.follows(ctx, e); err == nil {
			err = s.put(ctx, e, &cur, v)
		}
	}
	switch {
	case is[*types.ResourceExistsException](err):
		theirs, err := s.appearing(ctx, e.Name, v.id)
		if err != nil {
			return secret.Entry{}, false, err
		}
		return theirs.prepared(e)
	case err != nil:
		return secret.Entry{}, false, err
	}
	s.keep(e.Name, cur)
	e.Value = append([]byte(nil), e.Value...)
	return e, true, nil
}

// follows is the current version if e may come after it.
func (s *Store) follows(ctx context.Context, e secret.Entry) (current, error) {
	cur, err := s.current(ctx, e.Name)
	if err == nil && e.Generation != cur.generation+1 {
		err = secret.ErrConflict
	}
	return cur, err
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
