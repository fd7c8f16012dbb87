// Package join is the task's half of identity: the join directory that an
// operator gives to a workload, the one-time proof that its agent makes of it,
// and the node certificate that the proof is exchanged for.
//
// It owns the form of directory and proof, and the files from which Envoy
// reads the node certificate. It must not know the control plane's half, which
// reads the same forms in package identity, nor how Envoy is configured. Start
// reading at [Member.Join], then [Load].
package join

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"patchbay/identity/taskrole"
	"patchbay/mesh"
)

// File names of a join directory.
const (
	InfoFile = "join.json" // written last: with it the directory is complete
	KeyFile  = "join.key"  // 0600, PKCS #8; not there where the task joins by its AWS role
	CAFile   = "ca.pem"
)

// Info is join.json.
type Info struct {
	Version        int      `json:"version"` // 1
	Namespace      string   `json:"namespace"`
	Workload       string   `json:"workload"`
	DiscoveryNames []string `json:"discoveryNames"` // for people: the control plane's list counts
	KeyID          string   `json:"keyId"`
	TrustDomain    string   `json:"trustDomain"`
}

// Dir is a join directory that holds. It prints without its key.
type Dir struct {
	Info
	CA  []byte // PEM: what to trust on the control channel
	key *ecdsa.PrivateKey
}

// String names the directory's workload and key id.
func (d *Dir) String() string { return d.Namespace + "/" + d.Workload + " (key " + d.KeyID + ")" }

// ByRole reports whether the task joins by its AWS role: the directory then
// holds no key, and no secret.
func (d *Dir) ByRole() bool { return taskrole.IsKeyID(d.KeyID) }

// ByInstance reports whether who joins is an EC2 instance, by its role.
func (d *Dir) ByInstance() bool { return d.KeyID == taskrole.InstanceKeyID }

// Public is the public half of the join key.
func (d *Dir) Public() *ecdsa.PublicKey { return &d.key.PublicKey }

// Load reads a join directory; the error lists everything that is wrong. It
// matches fs.ErrNotExist while a file is missing.
func Load(dir string) (*Dir, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("join directory (made by `patchbay token join`): %w", err)
	}
	d := &Dir{}
	var errs []error
	read := func(file string, parse func([]byte) []error) {
		path := filepath.Join(dir, file)
		text, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, err) // names the file
			return
		}
		for _, err := range parse(text) {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	read(InfoFile, d.parse)
	if !d.ByRole() {
		read(KeyFile, func(text []byte) (errs []error) {
			if d.key = parseKey(text); d.key == nil {
				errs = append(errs, errors.New("allowed: one P-256 private key (PKCS #8, PEM)"))
			}
			return errs
		})
	}
	read(CAFile, func(text []byte) (errs []error) {
		if d.CA = text; !x509.NewCertPool().AppendCertsFromPEM(text) {
			errs = append(errs, errors.New("holds no certificate; allowed: the control channel's CA (PEM)"))
		}
		return errs
	})
	if len(errs) == 0 && !d.ByRole() && d.KeyID != KeyID(d.Public()) {
		errs = append(errs, fmt.Errorf("%s: keyId: %.80q; the key in %s is %q", filepath.Join(dir, InfoFile), d.KeyID, KeyFile, KeyID(d.Public())))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("join directory (made by `patchbay token join`): %w", errors.Join(errs...))
	}
	return d, nil
}

// KeyID names a join key everywhere: its JWK thumbprint (RFC 7638, SHA-256,
// base64url).
func KeyID(key *ecdsa.PublicKey) string {
	sum, err := (&jose.JSONWebKey{Key: key}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "" // not on P-256; no id is empty
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

func (i *Info) parse(text []byte) []error {
	errs := Object(text, map[string]any{
		"version": &i.Version, "namespace": &i.Namespace, "workload": &i.Workload,
		"discoveryNames": &i.DiscoveryNames, "keyId": &i.KeyID, "trustDomain": &i.TrustDomain,
	})
	if errs != nil {
		return errs
	}
	if i.Version != 1 {
		errs = append(errs, fmt.Errorf("version: %d; allowed: 1", i.Version))
	}
	errs = append(errs, ValidWorkload(mesh.Workload{Namespace: i.Namespace, Name: i.Workload, DiscoveryNames: i.DiscoveryNames})...)
	if err := ValidTrustDomain(i.TrustDomain); err != nil {
		errs = append(errs, fmt.Errorf("trustDomain: %w", err))
	}
	return errs
}

// parseKey returns nil for what is no key, and never an error with the file's
// content in it.
func parseKey(text []byte) *ecdsa.PrivateKey {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if ec, ok := key.(*ecdsa.PrivateKey); err == nil && ok && ec.Curve == elliptic.P256() {
		return ec
	}
	return nil
}

// keyUnit comes before a join key's id where a node certificate names it.
const keyUnit = "join key "

// KeyUnit is the organizational unit of a node certificate: which join key its
// node came with.
func KeyUnit(keyID string) string { return keyUnit + keyID }

// KeyOf is the join key that a node certificate names; empty if none.
func KeyOf(node *x509.Certificate) string {
	if ou := node.Subject.OrganizationalUnit; len(ou) == 1 {
		if id, ok := strings.CutPrefix(ou[0], keyUnit); ok {
			return id
		}
	}
	return ""
}

// dns is a DNS name as certificates may hold it.
var dns = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)

// ValidTrustDomain says what is wrong with a trust domain. Besides the SPIFFE
// ID standard's rules (2.1) it must be fit to be part of [ServerName].
func ValidTrustDomain(name string) error {
	td, err := spiffeid.TrustDomainFromString(name)
	if err != nil || td.Name() != name || !dns.MatchString(name) || len(ServerName(name)) > 253 {
		return fmt.Errorf("%.80q; allowed: a SPIFFE trust domain that is a lower-case DNS name, such as mesh.example.com", name)
	}
	return nil
}

// ValidWorkload lists what is wrong with the names of a workload: namespace
// and workload become path segments of a SPIFFE ID (2.2).
func ValidWorkload(w mesh.Workload) (errs []error) {
	for _, part := range []struct{ what, name string }{{"namespace", w.Namespace}, {"workload", w.Name}} {
		if err := spiffeid.ValidatePathSegment(part.name); err != nil || len(part.name) > 128 {
			errs = append(errs, fmt.Errorf("%s: %.80q; allowed: 1 to 128 of [A-Za-z0-9._-], not . or .. alone", part.what, part.name))
		}
	}
	for _, d := range w.DiscoveryNames {
		if !mesh.ValidDiscoveryName(d) {
			errs = append(errs, fmt.Errorf("discoveryName: %.80q; allowed: 1 to 64 of [a-z0-9_-], not starting with '-'", d))
		}
	}
	return errs
}

// ServerName is the DNS SAN of the control plane's certificate. Clients verify
// it whatever host name they dial.
func ServerName(trustDomain string) string { return "control." + trustDomain }

// SPIFFEID is the only name in a node's certificate.
func SPIFFEID(trustDomain string, n mesh.Node) string {
	return "spiffe://" + trustDomain + "/node/" + n.ID()
}
