package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"time"
)

// Report is the verdict on a service.
type Report struct {
	Service   string     `json:"service"`
	At        time.Time  `json:"at"`
	By        string     `json:"by"` // program and version
	OK        bool       `json:"ok"` // every check of every endpoint passed, and there is one
	Endpoints []Endpoint `json:"endpoints"`
	// Digest is the SHA-256, in hex, of this report as JSON without it.
	Digest string `json:"digest,omitempty"`
}

// NewReport closes a report over its endpoints.
func NewReport(service, by string, at time.Time, endpoints []Endpoint) (Report, error) {
	r := Report{Service: service, At: at.UTC(), By: by, Endpoints: endpoints}
	r.OK = len(endpoints) > 0 && !slices.ContainsFunc(endpoints, func(e Endpoint) bool { return !e.OK })
	b, err := json.Marshal(r)
	if err != nil {
		return r, fmt.Errorf("report: %w", err)
	}
	sum := sha256.Sum256(b)
	r.Digest = hex.EncodeToString(sum[:])
	return r, nil
}

// Failed counts the checks that did not pass.
func (r Report) Failed() int {
	n := 0
	for _, e := range r.Endpoints {
		for _, c := range e.Checks {
			if c.Outcome == Fail {
				n++
			}
		}
	}
	return n
}

type (
	testsuites struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []suite  `xml:"testsuite"`
	}
	suite struct {
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Time     string     `xml:"timestamp,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	testcase struct {
		Class   string   `xml:"classname,attr"`
		Name    string   `xml:"name,attr"`
		Failure *message `xml:"failure"`
		Skipped *message `xml:"skipped"`
		Out     string   `xml:"system-out,omitempty"`
	}
	message struct {
		Text string `xml:"message,attr"`
	}
)

// JUnit writes reports in the form that CI systems read: a suite for each
// endpoint.
func JUnit(w io.Writer, reports []Report) error {
	var all testsuites
	for _, r := range reports {
		for _, e := range r.Endpoints {
			s := suite{Name: r.Service + " at " + e.Address, Time: r.At.Format("2006-01-02T15:04:05")}
			for _, c := range e.Checks {
				t := testcase{Class: s.Name, Name: c.Title}
				s.Tests++
				switch c.Outcome {
				case Fail:
					s.Failures++
					t.Failure = &message{c.Detail}
				case Skipped:
					s.Skipped++
					t.Skipped = &message{c.Detail}
				default:
					t.Out = c.Detail
				}
				s.Cases = append(s.Cases, t)
			}
			all.Suites = append(all.Suites, s)
		}
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}
