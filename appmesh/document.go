package appmesh

import (
	"bytes"
	"encoding/json"

	"patchbay/mesh/policy"
)

// The form of a declaration, as docs/reference/declaration.md has it: the part
// of it that an import writes.
type (
	document struct {
		ServiceConnect serviceConnect            `json:"serviceConnectConfiguration"`
		PortMappings   []mapping                 `json:"portMappings,omitempty"`
		Policies       map[string]*policy.Policy `json:"policies,omitempty"`
	}
	serviceConnect struct {
		Enabled      bool       `json:"enabled"`
		Namespace    string     `json:"namespace"`
		Services     []service  `json:"services,omitempty"`
		Dependencies []string   `json:"dependencies,omitempty"`
		Log          *logDriver `json:"logConfiguration,omitempty"`
		AccessLog    *accessLog `json:"accessLogConfiguration,omitempty"`
	}
	service struct {
		PortName      string  `json:"portName"`
		DiscoveryName string  `json:"discoveryName"`
		ClientAliases []alias `json:"clientAliases,omitempty"`
		Timeout       *times  `json:"timeout,omitempty"`
		TLS           *issuer `json:"tls,omitempty"`
	}
	alias struct {
		Port    int64  `json:"port"`
		DNSName string `json:"dnsName,omitempty"`
	}
	times struct {
		Idle       *int64 `json:"idleTimeoutSeconds,omitempty"`
		PerRequest *int64 `json:"perRequestTimeoutSeconds,omitempty"`
	}
	issuer struct {
		Authority struct {
			ARN string `json:"awsPcaAuthorityArn"`
		} `json:"issuerCertificateAuthority"`
	}
	mapping struct {
		Name          string `json:"name"`
		ContainerPort int64  `json:"containerPort"`
		AppProtocol   string `json:"appProtocol,omitempty"`
	}
	logDriver struct {
		Driver string `json:"logDriver"`
	}
	accessLog struct {
		Format string `json:"format"`
	}
)

// encode is d as people read it.
func (d *document) encode() json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return nil // only a type that JSON can't hold, and there is none
	}
	return b.Bytes()
}
