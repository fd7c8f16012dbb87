package verify

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// DefaultMaxLife is the life of a Service Connect certificate.
const DefaultMaxLife = 7 * 24 * time.Hour

// slack is what a CA may add to a life: AWS Private CA backdates by an hour,
// step-ca by minutes.
const slack = time.Hour + 10*time.Minute

// Expect is what the port of a service must show.
type Expect struct {
	Name    string         // the DNS name that its certificate must carry
	Roots   *x509.CertPool // what callers trust; nil: the chain is not judged
	Serial  string         // lower-case hex of what was issued last; empty: not judged
	MaxLife time.Duration  // 0: DefaultMaxLife
	Log     *Log           // the audit log; nil: it is not looked at
	// Callers says whether callers must have a certificate.
	Callers Callers
}

// Callers says what a port wants of its callers.
type Callers int

// What that may be.
const (
	Unasked  Callers = iota // nothing, or a certificate is verified if one is shown
	Asked                   // a certificate, or nobody is let in
	AskedBut                // the same, but for ports that are exempted by name
)

// Log is what an audit log tells of certificates.
type Log struct {
	Problem string            // why it proves nothing; empty: it is as it was written
	Issued  map[string]Issued // by serial, lower-case hex
}

// Issued is one certificate in an audit log.
type Issued struct {
	Names []string // DNS names and URIs
	SPKI  string   // SHA-256 of the public key's SubjectPublicKeyInfo, hex
}

// Outcome of a [Check].
type Outcome string

// A check that could not be made is skipped, with the reason in its detail: it
// is no pass.
const (
	Pass    Outcome = "pass"
	Fail    Outcome = "fail"
	Skipped Outcome = "skipped"
)

// Check is one thing that was held against what is promised.
type Check struct {
	ID      string  `json:"id"` // stable
	Title   string  `json:"title"`
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail"` // what was seen
}

// Leaf describes a certificate.
type Leaf struct {
	Serial      string    `json:"serial"` // lower-case hex
	DNSNames    []string  `json:"dnsNames"`
	URIs        []string  `json:"uris,omitempty"`
	Issuer      string    `json:"issuer"`
	Key         string    `json:"key"` // "ECDSA P-256"
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the certificate, hex
}

// Endpoint is the verdict on one port.
type Endpoint struct {
	Observation
	Service string  `json:"service,omitempty"`
	Leaf    *Leaf   `json:"leaf,omitempty"`
	Checks  []Check `json:"checks"`
	OK      bool    `json:"ok"`
}

// Judge holds an observation against what is expected.
func Judge(o Observation, e Expect, now time.Time) Endpoint {
	j := &judge{out: Endpoint{Observation: o, Checks: []Check{}}, e: e, now: now}
	if o.Unreachable != "" {
		j.add("reachable", "the port takes connections", false, o.Unreachable)
		return j.out
	}
	j.add("reachable", "the port takes connections", true, "TCP connected")
	j.versions(o)
	chain, err := o.Modern.Certificates()
	switch {
	case err != nil:
		j.add("certificate", "the certificate can be read", false, err.Error())
	case len(chain) == 0:
		for _, c := range [][2]string{{"san", "the certificate names the service"}, {"chain", "callers trust the certificate"}, {"validity", "the certificate is valid now"}} {
			j.out.Checks = append(j.out.Checks, Check{c[0], c[1], Skipped, "there is no TLS 1.3 handshake to take it from"})
		}
	default:
		j.certificate(chain)
	}
	j.out.OK = !slices.ContainsFunc(j.out.Checks, func(c Check) bool { return c.Outcome == Fail })
	return j.out
}

type judge struct {
	out Endpoint
	e   Expect
	now time.Time
}

func (j *judge) add(id, title string, ok bool, detail string) {
	outcome := Pass
	if !ok {
		outcome = Fail
	}
	j.out.Checks = append(j.out.Checks, Check{id, title, outcome, detail})
}

func (j *judge) skip(id, title, why string) {
	j.out.Checks = append(j.out.Checks, Check{id, title, Skipped, why})
}

func (j *judge) versions(o Observation) {
	m := o.Modern
	detail := m.Error
	if detail == "" {
		detail = m.Version + ", " + m.Cipher + ", " + m.Group
	}
	j.add("tls13", "TLS 1.3 is spoken", m.Error == "" && m.Version == "TLS 1.3", detail)
	detail = "refused: " + o.Older.Error
	if o.Older.Error == "" {
		detail = "accepted: " + o.Older.Version + ", " + o.Older.Cipher
	}
	j.add("older", "TLS 1.2 and older are refused", o.Older.Error != "", detail)
	detail = "refused: " + o.Plain.Detail
	if !o.Plain.Refused {
		detail = "accepted: " + o.Plain.Detail
	}
	j.add("plain", "plain text is refused", o.Plain.Refused, detail)
	const callers, title = "callers", "a caller without a certificate is refused"
	switch {
	case j.e.Callers == Unasked:
	case m.Error != "":
		j.skip(callers, title, "there is no TLS 1.3 handshake to see it by")
	case m.Asks:
		j.add(callers, title, true, "refused: "+certificateRequired)
	case j.e.Callers == AskedBut:
		j.skip(callers, title, "it is let in: this may be a port that the service exempts")
	default:
		j.add(callers, title, false, "it is let in, although the service requires mutual TLS")
	}
}

func (j *judge) certificate(chain []*x509.Certificate) {
	leaf := chain[0]
	sum := sha256.Sum256(leaf.Raw)
	l := &Leaf{
		Serial: leaf.SerialNumber.Text(16), DNSNames: append([]string{}, leaf.DNSNames...), Issuer: leaf.Issuer.String(), Key: keyOf(leaf),
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), Fingerprint: hex.EncodeToString(sum[:]),
	}
	for _, u := range leaf.URIs {
		l.URIs = append(l.URIs, u.String())
	}
	j.out.Leaf = l
	j.add("san", "the certificate names "+j.e.Name, slices.Contains(leaf.DNSNames, j.e.Name), "DNS names "+strings.Join(leaf.DNSNames, ", "))
	j.chain(chain)
	j.add("validity", "the certificate is valid now", !j.now.Before(leaf.NotBefore) && j.now.Before(leaf.NotAfter),
		"from "+l.NotBefore.Format(time.RFC3339)+" until "+l.NotAfter.Format(time.RFC3339))
	most := j.e.MaxLife
	if most == 0 {
		most = DefaultMaxLife
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	j.add("life", "the certificate is short-lived", life <= most+slack, fmt.Sprintf("%s; allowed: %s", life.Round(time.Second), most))
	strong := l.Key == "ECDSA P-256" || l.Key == "ECDSA P-384" || strings.HasPrefix(l.Key, "RSA") && leaf.PublicKey.(*rsa.PublicKey).N.BitLen() >= 2048 || l.Key == "Ed25519"
	j.add("key", "the key is strong", strong, l.Key+", signed with "+leaf.SignatureAlgorithm.String())
	server := slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	j.add("usage", "it may authenticate a server, and is no CA", server && !leaf.IsCA, fmt.Sprintf("server authentication %v, CA %v", server, leaf.IsCA))
	j.logged(leaf, l)
	if j.e.Serial == "" {
		j.skip("serial", "it is the one that was issued last", "the control plane was not asked")
		return
	}
	j.add("serial", "it is the one that was issued last", l.Serial == j.e.Serial, l.Serial+"; issued last: "+j.e.Serial)
}

// logged holds a certificate against the audit log: that somebody wrote down
// its issue, for this name and this key.
func (j *judge) logged(leaf *x509.Certificate, l *Leaf) {
	const id, title = "audit", "the audit log tells of its issue"
	if j.e.Log == nil {
		return
	}
	spki := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	was, there := j.e.Log.Issued[l.Serial]
	switch {
	case j.e.Log.Problem != "":
		j.add(id, title, false, "the log proves nothing: "+j.e.Log.Problem)
	case !there:
		j.add(id, title, false, fmt.Sprintf("it tells of %d certificates, and not of %s", len(j.e.Log.Issued), l.Serial))
	case was.SPKI != hex.EncodeToString(spki[:]):
		j.add(id, title, false, l.Serial+" was issued for another key")
	case !slices.Contains(was.Names, j.e.Name):
		j.add(id, title, false, l.Serial+" was issued for "+strings.Join(was.Names, ", "))
	default:
		j.add(id, title, true, l.Serial+", for this key and name")
	}
}

// chain is judged at a moment within the leaf's life: its end has a check of
// its own.
func (j *judge) chain(chain []*x509.Certificate) {
	const title = "callers trust the certificate"
	if j.e.Roots == nil {
		j.skip("chain", title, "no roots were given: --ca")
		return
	}
	at := j.now
	switch leaf := chain[0]; {
	case at.Before(leaf.NotBefore):
		at = leaf.NotBefore.Add(time.Second)
	case !at.Before(leaf.NotAfter): // at its end: it may be backdated to before its CA began
		at = leaf.NotAfter.Add(-time.Second)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{Roots: j.e.Roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		j.add("chain", title, false, err.Error()+"; issued by "+chain[0].Issuer.String())
		return
	}
	root := paths[0][len(paths[0])-1]
	j.add("chain", title, true, fmt.Sprintf("issued by %s, root %s", chain[0].Issuer, root.Subject))
}

func keyOf(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return c.PublicKeyAlgorithm.String()
}
