package api

import "time"

// The outcomes of an [AWSCall].
const (
	Allowed   = "allowed"   // AWS answered
	Refused   = "refused"   // the role may not make the call
	Throttled = "throttled" // AWS answers that there are too many calls
	Failed    = "failed"    // AWS was not reached, or does not know the credentials
	Untried   = "untried"   // it can't be tried without changing something
)

// AWSCall is one call that the control plane makes of AWS, tried once.
type AWSCall struct {
	Action    string `json:"action"` // as IAM calls it
	Resource  string `json:"resource"`
	Outcome   string `json:"outcome"`
	Detail    string `json:"detail,omitempty"`
	Statement string `json:"statement,omitempty"` // what would allow a call that was refused
}

// AWS is GET /api/v1/aws. Asking makes the calls, at most once in ten seconds;
// none changes anything.
type AWS struct {
	At    time.Time `json:"at"`
	Calls []AWSCall `json:"calls"`
	// Names are the host names under which the registry is called, each with
	// why it can't be found; empty: it can.
	Names map[string]string `json:"names"`
}
