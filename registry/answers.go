package registry

import (
	"fmt"
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

// page cuts a page out of a list and keeps what the filters let pass. As on
// AWS the page is cut first: it may be empty and still have a successor.
func page[V, A any](all *state.Sorted[V], p cloudmap.Page, keep func(*V) (A, bool)) (out []A, next string, err error) {
	after, err := p.After()
	if err != nil {
		return nil, "", err
	}
	rows, last, more := all.Page(after, p.Limit())
	if more {
		next = cloudmap.NextToken(last)
	}
	out = []A{}
	for v := range rows {
		if a, ok := keep(v); ok {
			out = append(out, a)
		}
	}
	return out, next, nil
}

// now is the time as records hold it: AWS's are accurate to milliseconds.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
