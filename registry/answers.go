package registry

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"patchbay/registry/cloudmap"
	"patchbay/registry/state"
)

// newID is a random id in AWS's form.
func newID(prefix string) string {
	return prefix + strings.ReplaceAll(uuid.NewString(), "-", "")[16:]
}

func (s *Server) arn(kind, id string) string {
	return fmt.Sprintf("arn:aws:servicediscovery:%s:%s:%s/%s", s.o.Region, s.o.Account, kind, id)
}

// plainID is the id in an ARN of that kind; ids pass. An ARN of anything else
// stays as it is, which is nobody's id.
func plainID(kind, idOrARN string) string {
	if parts := strings.SplitN(idOrARN, ":", 6); len(parts) == 6 && parts[0] == "arn" && parts[2] == "servicediscovery" {
		if id, is := strings.CutPrefix(parts[5], kind+"/"); is {
			return id
		}
	}
	return idOrARN
}

// ours reports whether OwnerAccount, which may be absent, is this registry's.
func (s *Server) ours(account string) bool { return account == "" || account == s.o.Account }

func tagMap(tags []cloudmap.Tag) map[string]string {
	m := map[string]string{}
	for _, t := range tags {
		m[t.Key] = *t.Value
	}
	return m
}

func tagList(m map[string]string) []cloudmap.Tag {
	tags := []cloudmap.Tag{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		v := m[k]
		tags = append(tags, cloudmap.Tag{Key: k, Value: &v})
	}
	return tags
}

// page cuts a page out of a list and keeps what the filters let pass. As on
// AWS the page is cut first: it may be empty and still have a successor.
func page[V, A any](all *state.Sorted[V], p cloudmap.Page, key func(*V) string, keep func(*V) (A, bool)) ([]A, string, error) {
	after, err := position(p.NextToken)
	if err != nil {
		return nil, "", err
	}
	out, n, last := []A{}, 0, ""
	for v := range all.After(after) {
		if n == p.Limit() {
			return out, base64.RawURLEncoding.EncodeToString([]byte("1" + last)), nil
		}
		n, last = n+1, key(v)
		if a, ok := keep(v); ok {
			out = append(out, a)
		}
	}
	return out, "", nil
}

// position is the key after which a page starts.
func position(token string) (string, error) {
	if token == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) == 0 || b[0] != '1' {
		return "", cloudmap.InvalidInput("The NextToken is not one that this registry gave.")
	}
	return string(b[1:]), nil
}

// matches holds an item's fields against filters; it must match all of them.
func matches(filters []cloudmap.Filter, field func(name string) string) bool {
	for _, f := range filters {
		v, ok := field(f.Name), false
		switch f.Condition {
		case "BEGINS_WITH":
			ok = strings.HasPrefix(v, f.Values[0])
		case "BETWEEN":
			ok = f.Between(v)
		default: // EQ and IN
			ok = slices.Contains(f.Values, v)
		}
		if !ok {
			return false
		}
	}
	return true
}

// now is the time as records hold it: AWS's are accurate to milliseconds.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
