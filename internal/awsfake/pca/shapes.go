package pca

import (
	"encoding/json"

	"patchbay/internal/awsfake/wire"
)

// The shapes of the API. What the stand-in keeps and gives back without
// looking at it is raw.

type tag struct {
	Key   string
	Value string `json:",omitempty"`
}

type subject struct {
	CommonName, Country, DistinguishedNameQualifier, GenerationQualifier, GivenName, Initials, Locality string `json:",omitempty"`

	Organization, OrganizationalUnit, Pseudonym, SerialNumber, State, Surname, Title string `json:",omitempty"`

	CustomAttributes json.RawMessage `json:",omitempty"`
}

type configuration struct {
	CsrExtensions    json.RawMessage `json:",omitempty"`
	KeyAlgorithm     string          `json:",omitempty"`
	SigningAlgorithm string          `json:",omitempty"`
	Subject          *subject        `json:",omitempty"`
}

type createIn struct {
	CertificateAuthorityConfiguration *configuration
	CertificateAuthorityType          string
	IdempotencyToken                  string          `json:",omitempty"`
	KeyStorageSecurityStandard        string          `json:",omitempty"`
	RevocationConfiguration           json.RawMessage `json:",omitempty"`
	Tags                              []tag           `json:",omitempty"`
	UsageMode                         string          `json:",omitempty"`
}

type arnOnly struct{ CertificateAuthorityArn string }

type nothing struct{}

type description struct {
	Arn                               string
	CertificateAuthorityConfiguration *configuration
	CreatedAt                         *wire.Time      `json:",omitempty"`
	FailureReason                     string          `json:",omitempty"`
	KeyStorageSecurityStandard        string          `json:",omitempty"`
	LastStateChangeAt                 *wire.Time      `json:",omitempty"`
	NotAfter                          *wire.Time      `json:",omitempty"`
	NotBefore                         *wire.Time      `json:",omitempty"`
	OwnerAccount                      string          `json:",omitempty"`
	RestorableUntil                   *wire.Time      `json:",omitempty"`
	RevocationConfiguration           json.RawMessage `json:",omitempty"`
	Serial                            string          `json:",omitempty"`
	Status                            string
	Type                              string
	UsageMode                         string
}

type describeOut struct{ CertificateAuthority *description }

type listIn struct {
	MaxResults    int    `json:",omitempty"`
	NextToken     string `json:",omitempty"`
	ResourceOwner string `json:",omitempty"`
}

type listOut struct {
	CertificateAuthorities []*description
	NextToken              string `json:",omitempty"`
}

type csrOut struct{ Csr string }

type importIn struct {
	Certificate             []byte
	CertificateAuthorityArn string
	CertificateChain        []byte `json:",omitempty"`
}

type updateIn struct {
	CertificateAuthorityArn string
	RevocationConfiguration json.RawMessage `json:",omitempty"`
	Status                  string          `json:",omitempty"`
}

type deleteIn struct {
	CertificateAuthorityArn     string
	PermanentDeletionTimeInDays int `json:",omitempty"`
}

type validity struct {
	Type  string
	Value int64
}

type issueIn struct {
	ApiPassthrough          json.RawMessage `json:",omitempty"` //nolint:revive // AWS's name
	CertificateAuthorityArn string
	Csr                     []byte
	IdempotencyToken        string `json:",omitempty"`
	SigningAlgorithm        string
	TemplateArn             string `json:",omitempty"`
	Validity                *validity
	ValidityNotBefore       *validity `json:",omitempty"`
}

type issueOut struct{ CertificateArn string }

type getIn struct{ CertificateArn, CertificateAuthorityArn string }

type certificateOut struct {
	Certificate      string
	CertificateChain string `json:",omitempty"`
}

type revokeIn struct{ CertificateAuthorityArn, CertificateSerial, RevocationReason string }

type tagIn struct {
	CertificateAuthorityArn string
	Tags                    []tag
}

type pageIn struct {
	CertificateAuthorityArn string
	MaxResults              int    `json:",omitempty"`
	NextToken               string `json:",omitempty"`
}

type tagsOut struct {
	NextToken string `json:",omitempty"`
	Tags      []tag
}

type resourceOnly struct{ ResourceArn string }

type policyOut struct{ Policy string }

type policyIn struct{ Policy, ResourceArn string }

type permissionIn struct {
	Actions                            []string
	CertificateAuthorityArn, Principal string
	SourceAccount                      string `json:",omitempty"`
}

type unpermitIn struct {
	CertificateAuthorityArn, Principal string
	SourceAccount                      string `json:",omitempty"`
}

type permission struct {
	Actions                 []string
	CertificateAuthorityArn string
	CreatedAt               *wire.Time
	Policy                  string `json:",omitempty"`
	Principal               string
	SourceAccount           string `json:",omitempty"`
}

type permissionsOut struct {
	NextToken   string `json:",omitempty"`
	Permissions []permission
}
