package secretsmanager_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/go-cmp/cmp"

	"patchbay/internal/awsfake/secrets"
	"patchbay/internal/awsfake/wire"
	"patchbay/pki/secret"
	"patchbay/pki/secret/secretsmanager"
)

// world is AWS, reached by the unmodified SDK.
type world struct {
	t   *testing.T
	aws *wire.Server
	sdk *sm.Client
}

func newWorld(t *testing.T, o secrets.Options, w wire.Options) *world {
	return worldOf(t, secrets.New(o), w)
}

func worldOf(t *testing.T, fake *secrets.Secrets, w wire.Options) *world {
	s := wire.New(w, fake.API())
	sdk := sm.New(sm.Options{Region: "us-east-1", BaseEndpoint: aws.String("http://aws"), HTTPClient: s.Client(), Credentials: credentials.NewStaticCredentialsProvider("operator", "o", "")})
	return &world{t, s, sdk}
}

// replica is a store of its own over the same secrets.
func (w *world) replica(change func(*secretsmanager.Options)) *secretsmanager.Store {
	w.t.Helper()
	o := secretsmanager.Options{Endpoint: "http://aws", Prefix: "ecs-sc/mesh/", Interval: -1}
	if change != nil {
		change(&o)
	}
	s, err := secretsmanager.New(aws.Config{Region: "us-east-1", HTTPClient: w.aws.Client(), Credentials: credentials.NewStaticCredentialsProvider("patchbay", "p", "")}, o)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func entry(gen uint64, value string) secret.Entry {
	return secret.Entry{Name: "leaf/prod/a", Generation: gen, Value: []byte(value), For: "p"}
}

func (w *world) save(s secret.Store, gen uint64, value string) {
	w.t.Helper()
	if err := s.Save(w.t.Context(), entry(gen, value)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) holds(s secret.Store, gen uint64, value string) {
	w.t.Helper()
	e, err := s.Load(w.t.Context(), "leaf/prod/a")
	if err != nil || e.Generation != gen || string(e.Value) != value {
		w.t.Errorf("%v holds %q, %v; want generation %d, %q", e, e.Value, err, gen, value)
	}
}

// inBubble runs a test in fake time: the SDK waits before it asks again.
func inBubble(t *testing.T, name string, test func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// keyARN begins the ARN of every KMS key.
const keyARN = "arn:aws:kms:us-east-1:111122223333:key/"

const leafSecret = "ecs-sc/mesh/leaf/prod/a"

// A replica that dies between writing a version and promoting it leaves work
// to others: who prepares the next, or saves the same, finishes it.
func TestCrashBeforePromotion(t *testing.T) {
	for _, how := range []string{"prepare", "save"} {
		inBubble(t, how, func(t *testing.T) {
			w := newWorld(t, secrets.Options{}, wire.Options{})
			dying, other := w.replica(nil), w.replica(nil)
			w.save(dying, 1, "one")
			w.aws.Inject(wire.Fault{Operation: "UpdateSecretVersionStage", Error: "Died", Times: 1})
			if err := dying.Save(t.Context(), entry(2, "of the dead")); err == nil || errors.Is(err, secret.ErrConflict) {
				t.Fatalf("%v", err)
			}
			w.holds(other, 1, "one")
			if err := other.Save(t.Context(), entry(2, "mine")); !errors.Is(err, secret.ErrConflict) {
				t.Errorf("%v", err)
			}
			w.holds(other, 1, "one") // whoever wrote it may be about to promote it
			time.Sleep(6 * time.Second)
			var err error
			if how == "save" {
				err = other.Save(t.Context(), entry(2, "mine"))
			} else {
				_, _, err = other.Prepare(t.Context(), entry(2, "mine"))
			}
			if !errors.Is(err, secret.ErrConflict) {
				t.Errorf("%v", err)
			}
			w.holds(other, 2, "of the dead")
			w.save(other, 3, "three")
		})
	}
}

// A writer that slept through two generations changes nothing, whatever it
// still believes: also one whose own write is under way.
func TestSleepingWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, secrets.Options{}, wire.Options{})
		slow, fast := w.replica(nil), w.replica(nil)
		w.save(fast, 1, "one")
		w.aws.Inject(wire.Fault{Operation: "PutSecretValue", Times: 1, Latency: time.Second})
		ended := make(chan error)
		go func() { ended <- slow.Save(t.Context(), entry(2, "slow")) }()
		synctest.Wait() // it has read what is current, and its write is on the way
		w.save(fast, 2, "two")
		w.save(fast, 3, "three")
		if err := <-ended; !errors.Is(err, secret.ErrConflict) {
			t.Errorf("%v", err)
		}
		w.holds(slow, 3, "three")
		if err := slow.Save(t.Context(), entry(2, "slow")); !errors.Is(err, secret.ErrConflict) {
			t.Errorf("%v", err)
		}
		w.holds(slow, 3, "three")
	})
}

// Reads that lag behind writes never bring two winners, nor the past.
func TestLaggingReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, secrets.Options{Lag: 3 * time.Second}, wire.Options{})
		for gen := uint64(1); gen <= 5; gen++ {
			var wins atomic.Int32
			var winner atomic.Value
			var all sync.WaitGroup
			for r := range 5 {
				all.Go(func() {
					v := fmt.Sprintf("%d by %d", gen, r)
					time.Sleep(time.Duration(r) * 500 * time.Millisecond)
					switch err := w.replica(nil).Save(t.Context(), entry(gen, v)); {
					case err == nil:
						wins.Add(1)
						winner.Store(v)
					case !errors.Is(err, secret.ErrConflict):
						t.Error(err)
					}
				})
			}
			all.Wait()
			time.Sleep(3 * time.Second)
			if wins.Load() != 1 {
				t.Fatalf("generation %d: %d winners", gen, wins.Load())
			}
			w.holds(w.replica(nil), gen, winner.Load().(string))
		}
	})
}

// Answers that are lost, cut or refused for the rate change nothing.
func TestTrouble(t *testing.T) {
	for name, f := range map[string]wire.Fault{"lost": {Lost: true}, "throttled": {Error: "ThrottlingException"}, "broken": {Error: "InternalServiceError", Status: 500}} {
		inBubble(t, name, func(t *testing.T) {
			w := newWorld(t, secrets.Options{}, wire.Options{Unlimited: true})
			s := w.replica(nil)
			for _, op := range []string{"CreateSecret", "PutSecretValue", "UpdateSecretVersionStage", "GetSecretValue"} {
				f.Operation, f.Times = op, 1
				w.aws.Inject(f)
			}
			if p, mine, err := s.Prepare(t.Context(), entry(1, "key")); err != nil || !mine || string(p.Value) != "key" {
				t.Errorf("%v, %v, %v", p, mine, err)
			}
			w.save(s, 1, "one")
			w.save(s, 2, "two")
			w.holds(s, 2, "two")
		})
	}
}

// An operator who moves AWSCURRENT back is obeyed, and work goes on from
// there.
func TestRollback(t *testing.T) { inBubble(t, "", rollback) }

func rollback(t *testing.T) {
	w := newWorld(t, secrets.Options{}, wire.Options{})
	s := w.replica(nil)
	w.save(s, 1, "one")
	w.save(s, 2, "two")
	d, err := w.sdk.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String(leafSecret)})
	if err != nil {
		t.Fatal(err)
	}
	in := &sm.UpdateSecretVersionStageInput{SecretId: aws.String(leafSecret), VersionStage: aws.String("AWSCURRENT")}
	for id, labels := range d.VersionIdsToStages {
		for _, l := range labels {
			switch l {
			case "AWSCURRENT":
				in.RemoveFromVersionId = &id
			case "AWSPREVIOUS":
				in.MoveToVersionId = &id
			}
		}
	}
	if _, err := w.sdk.UpdateSecretVersionStage(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	w.holds(s, 1, "one")
	time.Sleep(6 * time.Second)
	if _, _, err := s.Prepare(t.Context(), entry(2, "key")); !errors.Is(err, secret.ErrConflict) {
		t.Errorf("%v", err) // the second follows the first: it is promoted again
	}
	w.holds(s, 2, "two")
	w.save(s, 3, "three")
}

// What somebody wrote by hand is corrupt, stays there, and is followed.
func TestWrittenByHand(t *testing.T) {
	for _, by := range []string{"not JSON", `{"version":1,"name":"other","generation":1}`} {
		w := newWorld(t, secrets.Options{}, wire.Options{})
		s := w.replica(nil)
		w.save(s, 1, "one")
		if _, err := w.sdk.PutSecretValue(t.Context(), &sm.PutSecretValueInput{SecretId: aws.String(leafSecret), SecretString: &by}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(t.Context(), "leaf/prod/a"); !errors.Is(err, secret.ErrCorrupt) || !strings.Contains(err.Error(), leafSecret) {
			t.Errorf("%v", err)
		}
		if p, mine, err := s.Prepare(t.Context(), entry(1, "key")); err != nil || !mine {
			t.Errorf("%v, %v, %v", p, mine, err)
		}
		w.save(s, 1, "anew")
		w.holds(s, 1, "anew")
	}
}

// A secret that IaC has made, without a value, is used.
func TestMadeBefore(t *testing.T) {
	w := newWorld(t, secrets.Options{}, wire.Options{})
	if _, err := w.sdk.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String(leafSecret)}); err != nil {
		t.Fatal(err)
	}
	a, b := w.replica(nil), w.replica(nil)
	if _, mine, err := a.Prepare(t.Context(), entry(1, "key")); err != nil || !mine {
		t.Errorf("%v, %v", mine, err)
	}
	if p, mine, err := b.Prepare(t.Context(), entry(1, "other")); err != nil || mine || string(p.Value) != "key" {
		t.Errorf("%q, %v, %v", p.Value, mine, err)
	}
	w.save(b, 1, "one")
	w.holds(a, 1, "one")
}

// Two generations may come at once, then one each half an hour; a day of that
// stays within the hundred versions that Secrets Manager keeps.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, secrets.Options{}, wire.Options{})
		s := w.replica(func(o *secretsmanager.Options) { o.Interval = 0 })
		gen, refused := uint64(1), 0
		start := time.Now()
		for time.Since(start) < 72*time.Hour {
			_, _, err := s.Prepare(t.Context(), entry(gen, "key"))
			if errors.Is(err, secret.ErrTooSoon) {
				refused++
				time.Sleep(time.Minute)
				continue
			}
			if err != nil {
				t.Fatalf("generation %d after %s: %v", gen, time.Since(start), err)
			}
			w.save(s, gen, "v")
			gen++
		}
		if gen-1 < 144 || gen-1 > 147 || refused == 0 {
			t.Errorf("%d generations in three days", gen-1)
		}
		_, _, err := s.Prepare(t.Context(), entry(gen, "key"))
		if err == nil {
			w.save(s, gen, "v")
			_, _, err = s.Prepare(t.Context(), entry(gen+1, "key"))
		}
		if err == nil || !regexp.MustCompile(`one generation in 30m0s is allowed, the next at 20\d\d-`).MatchString(err.Error()) {
			t.Errorf("%v", err)
		}
	})
}

func TestKeysTagsAndNames(t *testing.T) {
	w := newWorld(t, secrets.Options{Keys: []secrets.Key{{ARN: keyARN + "1", Alias: "alias/mesh"}, {ARN: keyARN + "2", Alias: "alias/backend"}}}, wire.Options{})
	s := w.replica(func(o *secretsmanager.Options) { o.KMSKey, o.Tags = "alias/mesh", map[string]string{"mesh": "prod"} })
	w.save(s, 1, "one")
	own := secret.Entry{Name: "leaf/prod/back-office", Generation: 1, KMSKey: "alias/backend"}
	if err := s.Save(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	d, err := w.sdk.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String(leafSecret)})
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{}
	for _, t := range d.Tags {
		tags[*t.Key] = *t.Value
	}
	if diff := cmp.Diff(map[string]string{"managed-by": "patchbay", "mesh": "prod", "patchbay:secret": "leaf/prod/a"}, tags); diff != "" || *d.KmsKeyId != "alias/mesh" {
		t.Errorf("key %s, tags %s", *d.KmsKeyId, diff)
	}
	// A name that ends like the suffix of an ARN is written otherwise.
	if d, err = w.sdk.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("ecs-sc/mesh/leaf/prod/back=2Doffice")}); err != nil || *d.KmsKeyId != "alias/backend" {
		t.Errorf("%+v, %v", d, err)
	}
	err = s.Save(t.Context(), secret.Entry{Name: "leaf/prod/b", Generation: 1, KMSKey: "alias/none"})
	if err == nil || !strings.Contains(err.Error(), "KMS key must be symmetric") {
		t.Errorf("%v", err)
	}
	if _, err := secretsmanager.New(aws.Config{}, secretsmanager.Options{Prefix: "ecs-sc!x"}); err == nil {
		t.Error("a prefix with an exclamation mark was accepted")
	}
}

func TestScheduledForDeletion(t *testing.T) {
	w := newWorld(t, secrets.Options{}, wire.Options{})
	s := w.replica(nil)
	w.save(s, 1, "one")
	if _, err := w.sdk.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String(leafSecret)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), "leaf/prod/a"); err == nil || errors.Is(err, secret.ErrNone) || !strings.Contains(err.Error(), "RestoreSecret") {
		t.Errorf("%v", err)
	}
}

// A role without permissions is told the statements, one after the other.
func TestMissingPermissions(t *testing.T) {
	w := newWorld(t, secrets.Options{}, wire.Options{})
	key := "arn:aws:kms:us-east-1:111122223333:key/1"
	role := wire.Principal{Secret: "p", ARN: "arn:aws:sts::111122223333:assumed-role/patchbay/1", Statements: []wire.Statement{{Effect: "Allow", Action: wire.List{"s3:*"}, Resource: wire.List{"*"}}}}
	statement := regexp.MustCompile(`this statement in its policy allows it: (\{.*\})`)
	var got []string
	for range 12 {
		w.aws.Grant("patchbay", role)
		s := w.replica(func(o *secretsmanager.Options) { o.KMSKey = key })
		err := s.Save(t.Context(), entry(1, "one"))
		if err == nil || errors.Is(err, secret.ErrConflict) {
			err = s.Save(t.Context(), entry(2, "two"))
		}
		if err == nil || errors.Is(err, secret.ErrConflict) {
			break
		}
		found := statement.FindStringSubmatch(err.Error())
		if found == nil {
			t.Fatalf("no statement in: %v", err)
		}
		more, err := wire.ParsePolicy([]byte(`{"Statement":[` + found[1] + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, more[0].Action[0])
		role.Statements = append(role.Statements, more...)
	}
	want := []string{"secretsmanager:GetSecretValue", "secretsmanager:CreateSecret", "secretsmanager:TagResource", "kms:GenerateDataKey", "kms:Decrypt", "secretsmanager:PutSecretValue", "secretsmanager:UpdateSecretVersionStage"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A store that does not answer holds nobody longer than its timeout.
func TestStuckAWS(t *testing.T) {
	w := newWorld(t, secrets.Options{}, wire.Options{})
	w.aws.Inject(wire.Fault{Hang: true})
	s := w.replica(func(o *secretsmanager.Options) { o.Timeout = 20 * time.Millisecond })
	if _, err := s.Load(t.Context(), "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
