package secrets

import (
	"cmp"
	"slices"
	"time"

	"patchbay/internal/awsfake/wire"
)

func (s *Secrets) create(c *wire.Call, in *createIn) (*createOut, error) {
	v := value{in.SecretString, in.SecretBinary}
	problems := wire.Required(in, "Name")
	if in.Name != "" && !secretName.MatchString(in.Name) {
		problems = append(problems, "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@")
	}
	problems = append(problems, checkVersion(in.ClientRequestToken, v, false)...)
	if len(problems) > 0 {
		return nil, wire.Invalid(problems...)
	}
	arn := newARN(c.Region, c.Principal.Account, in.Name)
	context := []string{"secretsmanager:Name", in.Name, "secretsmanager:KmsKeyId", in.KmsKeyId}
	for _, t := range in.Tags {
		context = append(context, "aws:RequestTag/"+t.Key, t.Value)
	}
	if err := c.May(arn, context...); err != nil {
		return nil, err
	}
	if len(in.Tags) > 0 {
		if err := c.Also("secretsmanager:TagResource", arn); err != nil {
			return nil, err
		}
	}
	if err := s.key(c, in.KmsKeyId, "GenerateDataKey", "Decrypt"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	key := c.Principal.Account + "/" + in.Name
	if old := s.all[key]; old != nil && (old.deleteAt.IsZero() || now.Before(old.deleteAt)) {
		if !old.deleteAt.IsZero() {
			return nil, wire.Fail("InvalidRequestException", "You can't create this secret because a secret with this name is already scheduled for deletion.")
		}
		if was := old.versions[in.ClientRequestToken]; was != nil && was.value.equal(v) {
			return &createOut{ARN: old.arn, Name: old.name, VersionId: was.id}, nil
		}
		return nil, wire.Fail("ResourceExistsException", "The operation failed because the secret %s already exists.", in.Name)
	}
	sec := &secret{
		arn: arn, name: in.Name, description: in.Description, kms: in.KmsKeyId, kind: in.Type, tags: in.Tags,
		created: now, changed: now, versions: map[string]*version{},
	}
	out := &createOut{ARN: arn, Name: in.Name}
	if v.text != nil || v.binary != nil {
		sec.versions[in.ClientRequestToken] = &version{id: in.ClientRequestToken, value: v, stages: []string{current}, created: now, kms: in.KmsKeyId}
		out.VersionId = in.ClientRequestToken
	}
	s.all[key] = sec
	return out, nil
}

func (s *Secrets) put(c *wire.Call, in *putIn) (*putOut, error) {
	v := value{in.SecretString, in.SecretBinary}
	problems := append(wire.Required(in, "SecretId"), checkVersion(in.ClientRequestToken, v, true)...)
	if len(in.VersionStages) > maxLabels {
		problems = append(problems, "Value at 'versionStages' failed to satisfy constraint: Member must have length less than or equal to 20")
	}
	if len(problems) > 0 {
		return nil, wire.Invalid(problems...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, err := s.open(c, in.SecretId)
	if err == nil {
		err = s.key(c, sec.kms, "GenerateDataKey", "Decrypt")
	}
	if err != nil {
		return nil, err
	}
	v2, err := s.add(sec, in.ClientRequestToken, v, in.VersionStages)
	if err != nil {
		return nil, err
	}
	return &putOut{ARN: sec.arn, Name: sec.name, VersionId: v2.id, VersionStages: slices.Clone(v2.stages)}, nil
}

// add is a new version, or the one that has this token and value.
func (s *Secrets) add(sec *secret, token string, v value, stages []string) (*version, error) {
	if old := sec.versions[token]; old != nil {
		if !old.value.equal(v) {
			return nil, wire.Fail("ResourceExistsException", "You can't use ClientRequestToken %s because that value is already in use for a version of secret %s.", token, sec.arn)
		}
		return old, nil
	}
	sec.prune()
	if len(sec.versions) >= maxVersions {
		return nil, wire.Fail("LimitExceededException", "You have reached the maximum of %d versions of a secret; those younger than 24 hours are never removed.", maxVersions)
	}
	first := len(sec.versions) == 0
	if len(stages) == 0 {
		stages = []string{current}
	}
	if first && s.o.FirstIsCurrent && !slices.Contains(stages, current) {
		stages = append(slices.Clone(stages), current)
	}
	sec.write()
	added := &version{id: token, value: v, created: time.Now(), kms: sec.kms}
	sec.versions[token] = added
	for _, label := range stages {
		sec.label(added, label)
	}
	return added, nil
}

// prune removes what AWS would: the oldest versions without a label.
func (sec *secret) prune() {
	old := sec.sorted()
	for i := len(old) - 1; i >= 0 && len(sec.versions) >= maxVersions; i-- {
		if len(old[i].stages) == 0 && time.Since(old[i].created) > keepAtLeast {
			delete(sec.versions, old[i].id)
		}
	}
}

// holder is the version that has a label.
func (sec *secret) holder(label string) *version {
	for _, v := range sec.versions {
		if slices.Contains(v.stages, label) {
			return v
		}
	}
	return nil
}

// label moves a label; AWSPREVIOUS follows AWSCURRENT.
func (sec *secret) label(to *version, label string) {
	from := sec.holder(label)
	if from == to {
		return
	}
	if from != nil {
		from.stages = slices.DeleteFunc(from.stages, func(l string) bool { return l == label })
		if label == current {
			sec.label(from, previous)
		}
	}
	if to != nil {
		to.stages = append(to.stages, label)
		if label == current {
			to.stages = slices.DeleteFunc(to.stages, func(l string) bool { return l == previous })
		}
	}
}

func (s *Secrets) move(c *wire.Call, in *moveIn) (*named, error) {
	if problems := wire.Required(in, "SecretId", "VersionStage"); len(problems) > 0 {
		return nil, wire.Invalid(problems...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, err := s.open(c, in.SecretId)
	if err != nil {
		return nil, err
	}
	from, to := sec.holder(in.VersionStage), sec.versions[in.MoveToVersionId]
	switch {
	case in.MoveToVersionId != "" && to == nil:
		return nil, wire.Fail("ResourceNotFoundException", "Secrets Manager can't find the specified secret version: %s", in.MoveToVersionId)
	case in.RemoveFromVersionId != "" && (from == nil || from.id != in.RemoveFromVersionId):
		return nil, wire.Fail("InvalidParameterException", "The staging label %s is not currently attached to version %s.", in.VersionStage, in.RemoveFromVersionId)
	case in.RemoveFromVersionId == "" && from != nil && from != to:
		return nil, wire.Fail("InvalidParameterException", "The parameter RemoveFromVersionId can't be empty. Staging label %s is currently attached to version %s, so you must explicitly reference that version in RemoveFromVersionId.", in.VersionStage, from.id)
	case to == nil && in.VersionStage == current:
		return nil, wire.Fail("InvalidParameterException", "You can only move staging label AWSCURRENT to a different secret version. It can't be completely removed.")
	}
	sec.write()
	if to != nil {
		sec.label(to, in.VersionStage)
	} else if from != nil {
		from.stages = slices.DeleteFunc(from.stages, func(l string) bool { return l == in.VersionStage })
	}
	return &named{sec.arn, sec.name}, nil
}

func (s *Secrets) get(c *wire.Call, in *getIn) (*getOut, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, err := s.open(c, in.SecretId)
	if err == nil {
		sec, err = s.seen(sec)
	}
	if err != nil {
		return nil, err
	}
	stage := in.VersionStage
	if stage == "" && in.VersionId == "" {
		stage = current
	}
	v := sec.versions[in.VersionId]
	if in.VersionId == "" {
		v = sec.holder(stage)
	}
	switch {
	case v == nil && in.VersionId != "":
		return nil, wire.Fail("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for VersionId: %s", in.VersionId)
	case v == nil:
		return nil, wire.Fail("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: %s", stage)
	case stage != "" && !slices.Contains(v.stages, stage):
		return nil, wire.Fail("InvalidRequestException", "You provided a VersionStage that is not associated to the provided VersionId.")
	}
	if err := s.key(c, v.kms, "Decrypt"); err != nil {
		return nil, err
	}
	return &getOut{
		ARN: sec.arn, Name: sec.name, CreatedDate: wire.At(v.created), VersionId: v.id, VersionStages: slices.Clone(v.stages),
		SecretString: v.value.text, SecretBinary: v.value.binary,
	}, nil
}

func (s *Secrets) listVersions(c *wire.Call, in *versionsIn) (*versionsOut, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, err := s.find(c, in.SecretId)
	if err == nil {
		sec, err = s.seen(sec)
	}
	if err != nil {
		return nil, err
	}
	out := &versionsOut{ARN: sec.arn, Name: sec.name, Versions: []versionEntry{}}
	limit := cmp.Or(in.MaxResults, 100)
	for _, v := range sec.sorted() {
		if len(v.stages) == 0 && (in.IncludeDeprecated == nil || !*in.IncludeDeprecated) {
			continue
		}
		if in.NextToken != "" {
			if v.id == in.NextToken {
				in.NextToken = ""
			}
			continue
		}
		if len(out.Versions) == limit {
			out.NextToken = out.Versions[limit-1].VersionId
			break
		}
		e := versionEntry{CreatedDate: wire.At(v.created), VersionId: v.id, VersionStages: slices.Clone(v.stages)}
		if v.kms != "" {
			e.KmsKeyIds = []string{v.kms}
		}
		out.Versions = append(out.Versions, e)
	}
	return out, nil
}
