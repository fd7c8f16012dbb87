package secrets

import (
	"maps"
	"slices"
	"strings"
	"time"

	"patchbay/internal/awsfake/wire"
)

func (s *Secrets) update(c *wire.Call, in *updateIn) (*updateOut, error) {
	v := value{in.SecretString, in.SecretBinary}
	if problems := append(wire.Required(in, "SecretId"), checkVersion(in.ClientRequestToken, v, false)...); len(problems) > 0 {
		return nil, wire.Invalid(problems...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, err := s.open(c, in.SecretId)
	if err == nil && in.KmsKeyId != "" && in.KmsKeyId != sec.kms {
		err = s.rekey(c, sec, in.KmsKeyId)
	}
	if err != nil {
		return nil, err
	}
	out := &updateOut{ARN: sec.arn, Name: sec.name}
	if in.Description != "" {
		sec.description = in.Description
	}
	if v.text != nil || v.binary != nil {
		added, err := s.add(sec, in.ClientRequestToken, v, nil)
		if err != nil {
			return nil, err
		}
		out.VersionId = added.id
	}
	return out, nil
}

func (s *Secrets) describe(c *wire.Call, in *idOnly) (*describeOut, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, err := s.find(c, in.SecretId)
	if err == nil {
		sec, err = s.seen(sec)
	}
	if err != nil {
		return nil, err
	}
	out := &describeOut{
		ARN: sec.arn, Name: sec.name, Description: sec.description, KmsKeyId: sec.kms, Type: sec.kind, Tags: slices.Clone(sec.tags),
		CreatedDate: wire.At(sec.created), LastChangedDate: wire.At(sec.changed), DeletedDate: wire.At(sec.deletedAt),
		VersionIdsToStages: map[string][]string{},
	}
	for id, v := range sec.versions {
		if len(v.stages) > 0 {
			out.VersionIdsToStages[id] = slices.Clone(v.stages)
		}
	}
	return out, nil
}

func (s *Secrets) list(c *wire.Call, in *listIn) (*listOut, error) {
	if err := c.May("*"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &listOut{SecretList: []listed{}}
	for _, key := range slices.Sorted(maps.Keys(s.all)) {
		sec := s.all[key]
		if !strings.HasPrefix(key, c.Principal.Account+"/") || !sec.deleteAt.IsZero() && !in.IncludePlannedDeletion || !sec.matches(in.Filters) {
			continue
		}
		if in.NextToken != "" {
			if sec.name == in.NextToken {
				in.NextToken = ""
			}
			continue
		}
		if n := in.MaxResults; n > 0 && len(out.SecretList) == n {
			out.NextToken = out.SecretList[n-1].Name
			break
		}
		l := listed{
			ARN: sec.arn, Name: sec.name, Description: sec.description, KmsKeyId: sec.kms, Tags: slices.Clone(sec.tags), CreatedDate: wire.At(sec.created),
			LastChangedDate: wire.At(sec.changed), DeletedDate: wire.At(sec.deletedAt), SecretVersionsToStages: map[string][]string{},
		}
		for id, v := range sec.versions {
			if len(v.stages) > 0 {
				l.SecretVersionsToStages[id] = slices.Clone(v.stages)
			}
		}
		out.SecretList = append(out.SecretList, l)
	}
	return out, nil
}

// matches knows the filters name, tag-key and tag-value, by prefix as AWS.
func (sec *secret) matches(filters []filter) bool {
	for _, f := range filters {
		ok := slices.ContainsFunc(f.Values, func(v string) bool {
			switch f.Key {
			case "name":
				return strings.HasPrefix(sec.name, v)
			case "tag-key":
				return slices.ContainsFunc(sec.tags, func(t tag) bool { return strings.HasPrefix(t.Key, v) })
			case "tag-value":
				return slices.ContainsFunc(sec.tags, func(t tag) bool { return strings.HasPrefix(t.Value, v) })
			}
			return false
		})
		if !ok {
			return false
		}
	}
	return true
}

func (s *Secrets) remove(c *wire.Call, in *removeIn) (*removeOut, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, err := s.find(c, in.SecretId)
	if err != nil {
		return nil, err
	}
	force := in.ForceDeleteWithoutRecovery != nil && *in.ForceDeleteWithoutRecovery
	days := in.RecoveryWindowInDays
	switch {
	case force && days != 0:
		return nil, wire.Fail("InvalidParameterException", "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
	case !force && days == 0:
		days = 30
	case !force && (days < 7 || days > 30):
		return nil, wire.Fail("InvalidParameterException", "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
	}
	sec.write()
	sec.deletedAt = time.Now()
	sec.deleteAt = sec.deletedAt.AddDate(0, 0, int(days))
	if force {
		delete(s.all, c.Principal.Account+"/"+sec.name)
	}
	return &removeOut{sec.arn, wire.At(sec.deleteAt), sec.name}, nil
}

func (s *Secrets) restore(c *wire.Call, in *idOnly) (*named, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, err := s.find(c, in.SecretId)
	if err != nil {
		return nil, err
	}
	sec.write()
	sec.deleteAt, sec.deletedAt = time.Time{}, time.Time{}
	return &named{sec.arn, sec.name}, nil
}

func (s *Secrets) tag(c *wire.Call, in *tagIn) (*nothing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, err := s.open(c, in.SecretId)
	if err != nil {
		return nil, err
	}
	sec.write()
	for _, t := range in.Tags {
		sec.tags = append(slices.DeleteFunc(sec.tags, func(o tag) bool { return o.Key == t.Key }), t)
	}
	return &nothing{}, nil
}

func (s *Secrets) untag(c *wire.Call, in *untagIn) (*nothing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sec, err := s.open(c, in.SecretId)
	if err != nil {
		return nil, err
	}
	sec.write()
	sec.tags = slices.DeleteFunc(sec.tags, func(o tag) bool { return slices.Contains(in.TagKeys, o.Key) })
	return &nothing{}, nil
}
