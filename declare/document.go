package declare

import "patchbay/mesh/policy"

// The document's form, in the words of the ECS API (RegisterTaskDefinition's
// portMappings, CreateService's serviceConnectConfiguration).
type (
	document struct {
		ServiceConnect *serviceConnect           `json:"serviceConnectConfiguration"`
		PortMappings   []portMapping             `json:"portMappings"`
		Policies       map[string]*policy.Policy `json:"policies"`
		Revision       string                    `json:"revision"`
		Deployment     *deployment               `json:"deploymentConfiguration"`
	}
	// deployment is what of ECS's deploymentConfiguration concerns calls.
	deployment struct {
		Strategy            string         `json:"strategy"`
		CanaryConfiguration *policy.Canary `json:"canaryConfiguration"`
		LinearConfiguration *policy.Linear `json:"linearConfiguration"`
		BakeTimeInMinutes   *int64         `json:"bakeTimeInMinutes"`
	}
	serviceConnect struct {
		Enabled                 *bool            `json:"enabled"`
		Namespace               string           `json:"namespace"`
		Services                []serviceEntry   `json:"services"`
		Dependencies            []string         `json:"dependencies"`
		LogConfiguration        *logConfig       `json:"logConfiguration"`
		AccessLogConfiguration  *accessLogConfig `json:"accessLogConfiguration"`
		ContainerConfigurations []struct {
			LogLevel string `json:"logLevel"`
		} `json:"containerConfigurations"`
	}
	serviceEntry struct {
		PortName            string        `json:"portName"`
		DiscoveryName       string        `json:"discoveryName"`
		ClientAliases       []clientAlias `json:"clientAliases"`
		IngressPortOverride *int          `json:"ingressPortOverride"`
		Timeout             *timeout      `json:"timeout"`
		TLS                 *tls          `json:"tls"`
	}
	clientAlias struct {
		Port             *int          `json:"port"`
		DNSName          string        `json:"dnsName"`
		TestTrafficRules *trafficRules `json:"testTrafficRules"`
	}
	trafficRules struct {
		Header *struct {
			Name  string `json:"name"`
			Value *struct {
				Exact string `json:"exact"`
			} `json:"value"`
		} `json:"header"`
	}
	timeout struct {
		IdleTimeoutSeconds       *int64 `json:"idleTimeoutSeconds"`
		PerRequestTimeoutSeconds *int64 `json:"perRequestTimeoutSeconds"`
	}
	tls struct {
		IssuerCertificateAuthority *struct {
			AWSPCAAuthorityARN string `json:"awsPcaAuthorityArn"`
		} `json:"issuerCertificateAuthority"`
		KMSKey  string `json:"kmsKey"`
		RoleARN string `json:"roleArn"`
	}
	portMapping struct {
		Name               string `json:"name"`
		ContainerPort      *int   `json:"containerPort"`
		HostPort           *int   `json:"hostPort"`
		Protocol           string `json:"protocol"`
		AppProtocol        string `json:"appProtocol"`
		ContainerPortRange string `json:"containerPortRange"`
	}
	logConfig struct {
		LogDriver     string            `json:"logDriver"`
		Options       map[string]string `json:"options"`
		SecretOptions []struct {
			Name      string `json:"name"`
			ValueFrom string `json:"valueFrom"`
		} `json:"secretOptions"`
	}
	accessLogConfig struct {
		Format                 string `json:"format"`
		IncludeQueryParameters string `json:"includeQueryParameters"`
	}
)
