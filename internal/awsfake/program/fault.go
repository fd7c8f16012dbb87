package program

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/awsfake/wire"
)

// ParseFault reads a fault as --fault and POST /faults take it: words and
// key=value separated by commas, such as
//
//	operation=IssueCertificate,error=ThrottlingException,times=3
//	service=secretsmanager,latency=2s
//	operation=PutSecretValue,skip=1,times=1,lost
//
// Keys are service, operation, skip, times, latency, error and status (of
// error; 400 without it); words are hang (no answer), lost (done, not answered)
// and cut (half an answer).
func ParseFault(text string) (wire.Fault, error) {
	var f wire.Fault
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		var err error
		switch key {
		case "service":
			f.Service = value
		case "operation":
			f.Operation = value
		case "error":
			f.Error = value
		case "skip":
			f.Skip, err = strconv.Atoi(value)
		case "times":
			f.Times, err = strconv.Atoi(value)
		case "status":
			f.Status, err = strconv.Atoi(value)
		case "latency":
			f.Latency, err = time.ParseDuration(value)
		case "hang":
			f.Hang = true
		case "lost":
			f.Lost = true
		case "cut":
			f.Cut = true
		default:
			err = fmt.Errorf("%q; allowed: service=, operation=, skip=, times=, latency=, error=, status=, hang, lost, cut", key)
		}
		if err != nil {
			return f, fmt.Errorf("fault %q: %w", text, err)
		}
	}
	if f.Error == "" && f.Latency == 0 && !f.Hang && !f.Lost && !f.Cut {
		return f, fmt.Errorf("fault %q does nothing; allowed: at least one of latency=, error=, hang, lost, cut", text)
	}
	return f, nil
}
