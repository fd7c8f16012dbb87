// Package wire answers the AWS JSON 1.1 protocol over HTTP as AWS does: by
// operation, for a signed caller with a policy, within the rates that AWS
// documents, and with the faults that a test asks for. It keeps a record of
// every call.
//
// It owns the protocol and the limits. It must not know what an operation
// means: those are the stand-ins beside it (pca, secrets, sts, ecs).
//
// Start reading at [Server.ServeHTTP], then [Op] and [Fault].
package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"
)

// Service is one API.
type Service struct {
	Signing string // its name in signatures and IAM actions: "acm-pca"
	Target  string // what stands before the operation in X-Amz-Target: "ACMPrivateCA."
	Text    string // the member of an error that holds its text: "message" or "Message"
	// Rates are calls a second, for each account, by bucket. What no bucket
	// limits is not limited.
	Rates      map[string]float64
	Operations map[string]Operation
	// Plain answers requests without X-Amz-Target that are signed for this
	// service, also those that are refused with err; nil: there are none.
	// PlainName is what such a call is called. PlainResource is what it asks
	// IAM for; empty: it does not ask.
	Plain         func(c *Call, w http.ResponseWriter, r *http.Request, body []byte, err error)
	PlainName     string
	PlainResource string
}

// Operation is one entry of an API; [Op] makes it.
type Operation struct {
	bucket string
	in     func() any
	out    func() any
	do     func(*Call, any) (any, error)
}

// Op makes an operation. bucket is the rate that it draws on; operations may
// share one. A nil *Out is an empty answer.
func Op[In, Out any](bucket string, do func(*Call, *In) (*Out, error)) Operation {
	return Operation{
		bucket: bucket,
		in:     func() any { return new(In) },
		out:    func() any { return new(Out) },
		do:     func(c *Call, in any) (any, error) { return do(c, in.(*In)) },
	}
}

// Input decodes a request; with strict, members that the stand-in does not
// know are an error.
func (o Operation) Input(body []byte, strict bool) (any, error) {
	return decode(body, o.in(), strict)
}

// Output decodes an answer strictly.
func (o Operation) Output(body []byte) (any, error) { return decode(body, o.out(), true) }

func decode(body []byte, into any, strict bool) (any, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if strict {
		dec.DisallowUnknownFields()
	}
	if err := dec.Decode(into); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the JSON value")
	}
	return into, nil
}

// Error is an error of an API.
type Error struct {
	Code   string
	Text   string
	Status int // 0: 400
}

func (e *Error) Error() string { return e.Code + ": " + e.Text }

// Fail makes an [Error] with status 400.
func Fail(code, format string, args ...any) error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Encode is e as it goes over the wire, where text is the member for its text.
func (e *Error) Encode(text string) []byte {
	body, err := json.Marshal(struct {
		Type string `json:"__type"`
	}{e.Code})
	if err != nil {
		panic(err)
	}
	said, err := json.Marshal(e.Text)
	if err != nil {
		panic(err)
	}
	return append(body[:len(body)-1], []byte(`,"`+text+`":`+string(said)+`}`)...)
}

// Invalid is what AWS answers when members of a request break a constraint.
func Invalid(problems ...string) error {
	noun := "validation errors"
	if len(problems) == 1 {
		noun = "validation error"
	}
	return Fail("ValidationException", "%d %s detected: %s", len(problems), noun, strings.Join(problems, "; "))
}

// Required names the members of in (a struct) that must be there and are not,
// as [Invalid] wants them.
func Required(in any, members ...string) (problems []string) {
	v := reflect.ValueOf(in).Elem()
	for _, m := range members {
		if v.FieldByName(m).IsZero() {
			problems = append(problems, fmt.Sprintf("Value null at '%s' failed to satisfy constraint: Member must not be null", strings.ToLower(m[:1])+m[1:]))
		}
	}
	return problems
}

// Time is a timestamp of the protocol: seconds since 1970.
type Time struct{ time.Time }

// At is t; the zero time is nil.
func At(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return &Time{t}
}

// MarshalJSON implements [json.Marshaler].
func (t Time) MarshalJSON() ([]byte, error) {
	ms := t.UnixMilli()
	if ms%1000 == 0 {
		return fmt.Appendf(nil, "%d", ms/1000), nil
	}
	return fmt.Appendf(nil, "%d.%03d", ms/1000, ms%1000), nil
}

// UnmarshalJSON implements [json.Unmarshaler].
func (t *Time) UnmarshalJSON(b []byte) error {
	var s float64
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	t.Time = time.UnixMilli(int64(s * 1000)).UTC()
	return nil
}
