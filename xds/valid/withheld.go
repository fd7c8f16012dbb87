package valid

import (
	"log/slog"
	"time"

	"patchbay/xds/delta"
	"patchbay/xds/translate"
)

// Withheld is a resource that must not leave, because Envoy would reject it or
// worse. What sidecars have under its name, if anything, stays.
type Withheld struct {
	SeenBy   string    `json:"seenBy"`   // the view or the node that would have got it
	Resource string    `json:"resource"` // "type name"
	Source   string    `json:"source"`   // the service, or the node, that it was made from
	Problem  string    `json:"problem"`  // names the field
	Since    time.Time `json:"since"`
}

// Book has those of one view or node.
type Book map[delta.Ref]Withheld

// Encode is nil for a resource that is withheld.
func (b Book) Encode(r translate.Resource, seenBy, source string, log *slog.Logger) *delta.Entry {
	e, err := Entry(r, source)
	if !b.note(err, r, seenBy, source, log) {
		return nil
	}
	return e
}

// Entry is that of a resource that Envoy would take.
func Entry(r translate.Resource, source string) (*delta.Entry, error) {
	if err := Check(r); err != nil {
		return nil, err
	}
	return delta.NewEntry(r.TypeURL, r.Name, source, r.Message)
}

// Check is [Book.Encode] without the encoding. It is false for a resource that is
// withheld.
func (b Book) Check(r translate.Resource, seenBy, source string, log *slog.Logger) bool {
	return b.note(Check(r), r, seenBy, source, log)
}

// note books what came of a resource. A problem is logged once.
func (b Book) note(err error, r translate.Resource, seenBy, source string, log *slog.Logger) (good bool) {
	ref := delta.Ref{TypeURL: r.TypeURL, Name: r.Name}
	if err == nil {
		delete(b, ref)
		return true
	}
	if problem := err.Error(); b[ref].Problem != problem {
		b[ref] = Withheld{SeenBy: seenBy, Resource: ref.String(), Source: source, Problem: problem, Since: time.Now()}
		log.Error("a resource is withheld", "seen_by", seenBy, "source", source, "resource", ref.String(), "reason", problem)
	}
	return false
}
