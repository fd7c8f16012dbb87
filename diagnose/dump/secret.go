package dump

import (
	"crypto/x509"
	"encoding/pem"

	"patchbay/admin/api"
)

// secretDump decodes certificates only.
type secretDump struct {
	Name    string `json:"name"`
	Version string `json:"version_info"`
	Secret  struct {
		Leaf struct {
			Chain struct {
				Bytes []byte `json:"inline_bytes"`
			} `json:"certificate_chain"`
		} `json:"tls_certificate"`
		Trust struct {
			Roots struct {
				Bytes []byte `json:"inline_bytes"`
			} `json:"trusted_ca"`
		} `json:"validation_context"`
	} `json:"secret"`
}

func secret(s secretDump, state string) api.TaskSecret {
	out := api.TaskSecret{Name: s.Name, Version: s.Version, State: state}
	if leaf := certificates(s.Secret.Leaf.Chain.Bytes); len(leaf) > 0 {
		out.Serial, out.NotAfter, out.DNSNames = leaf[0].SerialNumber.Text(16), leaf[0].NotAfter.UTC(), leaf[0].DNSNames
	}
	for _, root := range certificates(s.Secret.Trust.Roots.Bytes) {
		out.Subjects = append(out.Subjects, root.Subject.String())
	}
	return out
}

// certificates reads those that can be read.
func certificates(b []byte) []*x509.Certificate {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return out
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, c)
		}
	}
}
