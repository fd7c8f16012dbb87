// Package sts stands in for AWS STS: GetCallerIdentity alone, which says whose
// signature a request bears.
//
// It owns what the operation means. It must not know patchbay. Start reading
// at [API].
package sts

import (
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"patchbay/internal/awsfake/wire"
)

// API is the service to be served. It speaks the Query protocol: forms in, XML
// out. Signatures are verified as for any other API.
func API() wire.Service {
	return wire.Service{Signing: "sts", Plain: serve, PlainName: "GetCallerIdentity"}
}

type response struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
	Arn     string   `xml:"GetCallerIdentityResult>Arn"`
	UserID  string   `xml:"GetCallerIdentityResult>UserId"`
	Account string   `xml:"GetCallerIdentityResult>Account"`
	Request string   `xml:"ResponseMetadata>RequestId"`
}

type failure struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
	Type    string   `xml:"Error>Type"`
	Code    string   `xml:"Error>Code"`
	Message string   `xml:"Error>Message"`
	Request string   `xml:"RequestId"`
}

func serve(c *wire.Call, w http.ResponseWriter, r *http.Request, body []byte, refused error) {
	if e, ok := errors.AsType[*wire.Error](refused); ok {
		status := e.Status
		if status == 0 {
			status = http.StatusForbidden
		}
		Fail(w, status, strings.TrimSuffix(e.Code, "Exception"), e.Text)
		return
	}
	form, err := url.ParseQuery(string(body))
	if r.Method == http.MethodGet {
		form, err = r.URL.Query(), nil
	}
	if err != nil || form.Get("Action") != "GetCallerIdentity" {
		Fail(w, http.StatusBadRequest, "InvalidAction", "Could not find operation "+form.Get("Action")+" for version 2011-06-15")
		return
	}
	write(w, http.StatusOK, response{Arn: c.Principal.ARN, UserID: c.Principal.UserID, Account: c.Principal.Account, Request: uuid.NewString()})
}

// Fail answers as STS does when it refuses.
func Fail(w http.ResponseWriter, status int, code, text string) {
	write(w, status, failure{Type: "Sender", Code: code, Message: text, Request: uuid.NewString()})
}

func write(w http.ResponseWriter, status int, v any) {
	text, err := xml.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // strings alone
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	w.Write(text)
}
