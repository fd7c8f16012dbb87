package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"patchbay/mesh"
	"patchbay/mesh/policy"
)

// version is that of the settings document. A reader refuses a greater one and
// ignores members that it does not know.
const version = 1

// Settings is what the tasks of a service declare together. As a document it
// is immutable and known by its hash.
type Settings struct {
	Protocol mesh.Protocol
	Aliases  []mesh.Alias // VIP is ignored: VIPs are written down apart
	TLS      *mesh.ServiceTLS
	Timeouts mesh.Timeouts
	Policy   *policy.Policy
}

type document struct {
	Version  int             `json:"version"`
	Protocol string          `json:"protocol"`
	Aliases  []docAlias      `json:"aliases,omitempty"`
	TLS      *docTLS         `json:"tls,omitempty"`
	Timeouts *docTimeouts    `json:"timeouts,omitempty"`
	Policy   json.RawMessage `json:"policy,omitempty"`
}

type docAlias struct {
	DNSName string `json:"dnsName"`
	Port    uint16 `json:"port"`
}

type docTLS struct {
	Issuer string `json:"issuer"`
	Only   bool   `json:"only,omitempty"`
	KMSKey string `json:"kmsKey,omitempty"`
}

// docTimeouts holds durations in Go's notation, such as "15s"; "0s" is off.
type docTimeouts struct {
	Idle       string `json:"idle,omitempty"`
	PerRequest string `json:"perRequest,omitempty"`
}

// Encode is the document and its hash. Equal settings give equal bytes, in
// whatever order their aliases are given. The error lists every problem.
func (s Settings) Encode() (doc []byte, hash16 string, err error) {
	if err := s.validate(); err != nil {
		return nil, "", err
	}
	d := document{Version: version, Protocol: string(s.Protocol)}
	for _, a := range s.Aliases {
		d.Aliases = append(d.Aliases, docAlias{a.DNSName, a.Port})
	}
	slices.SortFunc(d.Aliases, func(a, b docAlias) int {
		return mesh.Alias{DNSName: a.DNSName, Port: a.Port}.Compare(mesh.Alias{DNSName: b.DNSName, Port: b.Port})
	})
	d.Aliases = slices.Compact(d.Aliases)
	if s.TLS != nil {
		d.TLS = &docTLS{s.TLS.Issuer, s.TLS.Only, s.TLS.KMSKey}
	}
	if t := s.Timeouts; t.Idle != nil || t.PerRequest != nil {
		d.Timeouts = &docTimeouts{}
		if t.Idle != nil {
			d.Timeouts.Idle = t.Idle.String()
		}
		if t.PerRequest != nil {
			d.Timeouts.PerRequest = t.PerRequest.String()
		}
	}
	d.Policy = s.Policy.Encode()
	b, err := json.Marshal(d)
	if err != nil {
		return nil, "", fmt.Errorf("encode settings: %w", err)
	}
	return b, hash(b), nil
}

// DecodeSettings is the reverse of Encode. It accepts members that it does not
// know, but no value that it could misunderstand.
func DecodeSettings(doc []byte) (Settings, error) {
	var d document
	if err := json.Unmarshal(doc, &d); err != nil {
		return Settings{}, fmt.Errorf("decode settings: %w", err)
	}
	if d.Version < 1 || d.Version > version {
		return Settings{}, fmt.Errorf("decode settings: version %d; this program knows %d", d.Version, version)
	}
	s := Settings{Protocol: mesh.Protocol(d.Protocol)}
	for _, a := range d.Aliases {
		s.Aliases = append(s.Aliases, mesh.Alias{DNSName: a.DNSName, Port: a.Port})
	}
	slices.SortFunc(s.Aliases, mesh.Alias.Compare)
	s.Aliases = slices.Compact(s.Aliases)
	if d.TLS != nil {
		s.TLS = &mesh.ServiceTLS{Issuer: d.TLS.Issuer, Only: d.TLS.Only, KMSKey: d.TLS.KMSKey}
	}
	var errs []error
	if d.Timeouts != nil {
		s.Timeouts.Idle = duration("idle", d.Timeouts.Idle, &errs)
		s.Timeouts.PerRequest = duration("perRequest", d.Timeouts.PerRequest, &errs)
	}
	var err error
	if s.Policy, err = policy.Decode(d.Policy); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(append(errs, s.validate())...); err != nil {
		return Settings{}, fmt.Errorf("decode settings: %w", err)
	}
	return s, nil
}

func duration(what, text string, errs *[]error) *time.Duration {
	if text == "" {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		*errs = append(*errs, fmt.Errorf("timeouts.%s: %w", what, err))
		return nil
	}
	return &d
}

func (s Settings) validate() error {
	var errs []error
	if !s.Protocol.Valid() {
		errs = append(errs, fmt.Errorf("protocol %q is not one of http, http2, grpc, tcp", s.Protocol))
	}
	for _, a := range s.Aliases {
		if !mesh.ValidDNSName(a.DNSName) {
			errs = append(errs, fmt.Errorf("alias %q: a dnsName is "+mesh.DNSNameForm, a.DNSName))
		}
		if a.Port == 0 {
			errs = append(errs, fmt.Errorf("alias %q: the port is not one of 1 to 65535", a.DNSName))
		}
	}
	if s.TLS != nil && (s.TLS.Issuer == "" || !printable(s.TLS.Issuer)) {
		errs = append(errs, fmt.Errorf("tls: the issuer %q is not one or more visible ASCII characters", s.TLS.Issuer))
	}
	if s.TLS != nil && s.TLS.KMSKey != "" && !mesh.ValidKMSKey(s.TLS.KMSKey) {
		errs = append(errs, fmt.Errorf("tls: the KMS key %q is none: an id, alias/NAME, or the ARN of either", s.TLS.KMSKey))
	}
	for what, d := range map[string]*time.Duration{"idle": s.Timeouts.Idle, "perRequest": s.Timeouts.PerRequest} {
		if d != nil && (*d < 0 || *d > mesh.MaxTimeout) {
			errs = append(errs, fmt.Errorf("timeouts.%s: %s is negative or more than %s", what, *d, mesh.MaxTimeout))
		}
	}
	return errors.Join(errs...)
}
