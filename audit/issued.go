package audit

import (
	"fmt"
	"os"
)

// Issued are the certificates of services that the log at path tells of, by
// serial, and what [Verify] says of the log. It may be asked while the log is
// written. The error is about reading the file alone.
func Issued(path string) (map[string]Event, Report, error) {
	report, err := Verify(path, Anchor{})
	if err != nil {
		return nil, report, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, report, fmt.Errorf("audit log: %w", err)
	}
	defer f.Close()
	out := map[string]Event{}
	_, _, err = lines(f, func(_ int, text []byte) {
		v, _, err := split(text)
		if err == nil && (v.Kind == CertificateIssued || v.Kind == CertificateRenewed) && v.Decision == Allowed {
			out[v.Serial] = v.Event
		}
	})
	if err != nil {
		return nil, report, fmt.Errorf("audit log %s: %w", path, err)
	}
	return out, report, nil
}
