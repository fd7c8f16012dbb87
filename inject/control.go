package inject

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Names of what is added once.
const (
	controlPlane  = "patchbay"
	authority     = "patchbay-ca"
	programs      = "patchbay-programs"
	dataVolume    = "patchbay-data"
	caVolume      = "patchbay-ca"
	caShareVolume = "patchbay-ca-share"
	dataDir       = "/data"
	dockerfile    = "deploy/docker/Dockerfile"
)

// adminPort is where the host reaches the admin interface, on loopback.
const adminPort = "127.0.0.1:${PATCHBAY_ADMIN_PORT:-18002}:18002"

// control is the control plane with its registry, its CA, and the programs for
// scalable services.
func (f *file) control() object {
	plane := object{
		{"image", f.settings.Image},
		{"command", append(words("serve", "--config-text"), literal(f.config()))},
		{"ports", words(adminPort)},
		{"networks", flow(words("default", network))},
		{"volumes", words(dataVolume+":"+dataDir, caShareVolume+":/ca:ro")},
		{"depends_on", object{{authority, condition("service_healthy")}}},
		{"healthcheck", healthcheck("patchbay", "serve", "health")},
		{"restart", "unless-stopped"},
	}
	ca := object{
		{"image", f.settings.CAImage},
		{"command", flow(words("run", "--dir", "/ca", "--share", "/ca-share", "--dns", authority, "--listen", "0.0.0.0:9000"))},
		{"networks", flow(words(network))},
		{"volumes", words(caVolume+":/ca", caShareVolume+":/ca-share")},
		{"healthcheck", healthcheck("/devca", "health", "--dir", "/ca-share")},
		{"restart", "unless-stopped"},
	}
	if f.settings.Build != "" {
		plane = slices.Insert(plane, 1, f.build("patchbay"))
		ca = slices.Insert(ca, 1, f.build("devca"))
	}
	o := object{{authority, ca}, {controlPlane, plane}}
	if f.scales() {
		o = append(o, field{programs, object{
			{"image", f.settings.Image},
			{"command", flow(words("task", "install", "--to", "/patchbay"))},
			{"network_mode", "none"},
			{"volumes", words(programs + ":/patchbay")},
			{"depends_on", object{{controlPlane, condition("service_started")}}},
		}})
	}
	return o
}

func (f *file) build(target string) field {
	return field{"build", object{{"context", f.settings.Build}, {"dockerfile", dockerfile}, {"target", target}}}
}

// config is the control plane's file.
func (f *file) config() string {
	var namespaces []string
	for _, s := range f.tasks {
		namespaces = append(namespaces, strconv.Quote(s.task.Namespace))
	}
	slices.Sort(namespaces)
	return fmt.Sprintf(`trustDomain: %q
namespaces: [%s]
createNamespaces: true
data: %s
registry: {listen: "127.0.0.1:18003"}
admin: {listen: "0.0.0.0:18002"}
issuers:
  default:
    stepCA:
      url: https://%s:9000
      fingerprintFile: /ca/fingerprint
      provisioner: patchbay
      passwordFile: /ca/provisioner-password`, f.settings.TrustDomain, strings.Join(slices.Compact(namespaces), ", "), dataDir, authority)
}
