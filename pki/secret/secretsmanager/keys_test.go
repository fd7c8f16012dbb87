package secretsmanager_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/go-cmp/cmp"

	"patchbay/internal/awsfake/secrets"
	"patchbay/internal/awsfake/wire"
	"patchbay/pki/secret"
	"patchbay/pki/secret/secretsmanager"
)

// under is entry under a KMS key.
func under(key string, gen uint64) secret.Entry {
	e := entry(gen, "v")
	e.KMSKey = key
	return e
}

// rotate makes a generation as the rotator does.
func rotate(t *testing.T, s secret.Store, e secret.Entry) error {
	t.Helper()
	_, _, err := s.Prepare(t.Context(), e)
	return errors.Join(err, s.Save(t.Context(), e))
}

// A service that asks for another KMS key has it with its next generation, with
// one call; one that asks for none any more has the store's own, and one that
// never asked stays where its owner put it.
func TestAnotherKey(t *testing.T) {
	all := []secrets.Key{{ARN: keyARN + "1", Alias: "alias/mesh"}, {ARN: keyARN + "2", Alias: "alias/own"}, {ARN: keyARN + "3"}}
	w := newWorld(t, secrets.Options{Keys: all}, wire.Options{})
	a, b := w.replica(func(o *secretsmanager.Options) { o.KMSKey = "alias/mesh" }), w.replica(nil)
	var got []string
	for gen, key := range []string{"", "alias/own", "alias/own", keyARN + "3", "", ""} {
		s := a
		if gen == 4 {
			s = b // which has no key of its own
		}
		if err := rotate(t, s, under(key, uint64(gen+1))); err != nil {
			t.Fatal(err)
		}
		d, err := w.sdk.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String(leafSecret)})
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, *d.KmsKeyId)
	}
	if diff := cmp.Diff([]string{"alias/mesh", "alias/own", "alias/own", keyARN + "3", "alias/aws/secretsmanager", "alias/aws/secretsmanager"}, got); diff != "" {
		t.Error(diff)
	}
	updates := 0
	for _, c := range w.aws.Calls() {
		if c.Operation == "UpdateSecret" {
			updates++
		}
	}
	if updates != 3 {
		t.Errorf("%d updates of the secret for three changes", updates)
	}
}

// Replicas that change the key at the same time make one generation under it.
func TestAnotherKeyOnce(t *testing.T) {
	w := newWorld(t, secrets.Options{Keys: []secrets.Key{{ARN: keyARN + "1"}, {ARN: keyARN + "2"}}}, wire.Options{})
	a, b := w.replica(nil), w.replica(nil)
	if err := rotate(t, a, under(keyARN+"1", 1)); err != nil {
		t.Fatal(err)
	}
	_, mine, err := a.Prepare(t.Context(), under(keyARN+"2", 2))
	if err != nil || !mine {
		t.Fatal(mine, err)
	}
	if _, mine, err = b.Prepare(t.Context(), under(keyARN+"2", 2)); err != nil || mine {
		t.Fatal(mine, err)
	}
	if err := b.Save(t.Context(), under(keyARN+"2", 2)); err != nil {
		t.Fatal(err)
	}
	if err := a.Save(t.Context(), under(keyARN+"2", 2)); err != nil && !errors.Is(err, secret.ErrConflict) {
		t.Fatal(err)
	}
	w.holds(a, 2, "v")
	out, err := w.sdk.ListSecretVersionIds(t.Context(), &sm.ListSecretVersionIdsInput{SecretId: aws.String(leafSecret)})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range out.Versions {
		if slices.Contains(v.VersionStages, "AWSCURRENT") && !slices.Equal(v.KmsKeyIds, []string{keyARN + "2"}) {
			t.Errorf("the current version is under %v", v.KmsKeyIds)
		}
	}
}

// A key that is not there, is switched off or may not be used changes nothing,
// and what is said tells what to do.
func TestUnusableKey(t *testing.T) {
	fake := secrets.New(secrets.Options{Keys: []secrets.Key{{ARN: keyARN + "1"}, {ARN: keyARN + "2", Alias: "alias/own"}}})
	w := worldOf(t, fake, wire.Options{})
	s := w.replica(nil)
	if err := rotate(t, s, under(keyARN+"1", 1)); err != nil {
		t.Fatal(err)
	}
	refused := func(what, key string, wants ...string) {
		t.Helper()
		err := rotate(t, s, under(key, 2))
		for _, want := range wants {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q in it", what, err, want)
			}
		}
		w.holds(s, 1, "v")
	}
	refused("none", "alias/none", "EncryptionFailure", "must be symmetric and enabled")
	fake.Disable(keyARN+"2", true)
	refused("disabled", "alias/own", "it is disabled", "must be symmetric and enabled")
	fake.Disable(keyARN+"2", false)
	policy, err := wire.ParsePolicy([]byte(`{"Statement":[{"Effect":"Allow","Action":"secretsmanager:*","Resource":"*"},{"Effect":"Allow","Action":"kms:*","Resource":"` + keyARN + `1"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	w.aws.Grant("patchbay", wire.Principal{Secret: "p", ARN: "arn:aws:sts::111122223333:assumed-role/patchbay/1", Statements: policy})
	refused("not allowed", "alias/own", `may not kms:GenerateDataKey on `+keyARN+`2; this statement in its policy allows it: {"Effect":"Allow","Action":"kms:GenerateDataKey","Resource":"`+keyARN+`2"}`)
	// AWS may say no more than that it is KMS.
	w.aws.Inject(wire.Fault{Operation: "UpdateSecret", Error: "AccessDeniedException", Text: "Access to KMS is not allowed"})
	refused("not allowed, in few words", "alias/own", `may not kms:GenerateDataKey on arn:aws:kms:*:*:key/*; this statement in its policy allows it: {"Effect":"Allow","Action":"kms:GenerateDataKey","Resource":"arn:aws:kms:*:*:key/*","Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/own"}}}`)
}
