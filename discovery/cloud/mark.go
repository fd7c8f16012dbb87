package cloud

import (
	"encoding/json"
	"hash/fnv"
)

// Mark is a short hash of what a was: two replicas that got the same answer
// have the same mark.
func (a Answer) Mark() uint64 {
	parts := []any{a.Revision, a.Malformed}
	for _, i := range a.Instances {
		parts = append(parts, i.ID(), i.HealthWord, i.Attributes)
	}
	return Mark(parts)
}

// Mark is a hash of anything that JSON can say: map keys are sorted.
func Mark(v any) uint64 {
	h := fnv.New64a()
	if err := json.NewEncoder(h).Encode(v); err != nil {
		panic(err) // strings and numbers alone
	}
	return h.Sum64()
}
