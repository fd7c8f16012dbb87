package pca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"strings"

	"patchbay/internal/awsfake/wire"
)

// algorithms are the signing algorithms by AWS's name, with the family of key
// that makes them.
var algorithms = map[string]struct {
	family string
	x509   x509.SignatureAlgorithm
}{
	"SHA256WITHECDSA": {"EC", x509.ECDSAWithSHA256}, "SHA384WITHECDSA": {"EC", x509.ECDSAWithSHA384}, "SHA512WITHECDSA": {"EC", x509.ECDSAWithSHA512},
	"SHA256WITHRSA": {"RSA", x509.SHA256WithRSA}, "SHA384WITHRSA": {"RSA", x509.SHA384WithRSA}, "SHA512WITHRSA": {"RSA", x509.SHA512WithRSA},
	"SHA256WITHRSA_PSS": {"RSA", x509.SHA256WithRSAPSS}, "SHA384WITHRSA_PSS": {"RSA", x509.SHA384WithRSAPSS}, "SHA512WITHRSA_PSS": {"RSA", x509.SHA512WithRSAPSS},
}

func family(keyAlgorithm string) string {
	return keyAlgorithm[:strings.IndexAny(keyAlgorithm+"_", "_")]
}

func newKey(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "RSA_2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "RSA_3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "RSA_4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	case "EC_prime256v1":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EC_secp384r1":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "EC_secp521r1":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	}
	return nil, wire.Invalid("Value '" + algorithm + "' at 'certificateAuthorityConfiguration.keyAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [RSA_2048, RSA_3072, RSA_4096, EC_prime256v1, EC_secp384r1, EC_secp521r1]")
}

func (s subject) name() pkix.Name {
	one := func(v string) []string {
		if v == "" {
			return nil
		}
		return []string{v}
	}
	return pkix.Name{
		CommonName: s.CommonName, Country: one(s.Country), Organization: one(s.Organization), OrganizationalUnit: one(s.OrganizationalUnit),
		Locality: one(s.Locality), Province: one(s.State), SerialNumber: s.SerialNumber,
	}
}

func encode(certs ...*x509.Certificate) string {
	var out strings.Builder
	for _, c := range certs {
		pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) //nolint:errcheck // to memory
	}
	return out.String()
}

func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no PEM certificate")
	}
	return out, nil
}

// parseCSR reads a PEM certificate request and checks its signature.
func parseCSR(text []byte) (*x509.CertificateRequest, error) {
	block, rest := pem.Decode(text)
	if block == nil || len(strings.TrimSpace(string(rest))) > 0 || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, wire.Fail("MalformedCSRException", "The certificate signing request is not one PEM block CERTIFICATE REQUEST")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, wire.Fail("MalformedCSRException", "The certificate signing request is malformed: %v", err)
	}
	if len(csr.Subject.Names) == 0 && len(csr.DNSNames)+len(csr.URIs)+len(csr.IPAddresses)+len(csr.EmailAddresses) == 0 {
		return nil, wire.Fail("MalformedCSRException", "The certificate signing request has neither a subject nor a subject alternative name")
	}
	return csr, nil
}
