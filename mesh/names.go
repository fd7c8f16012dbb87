package mesh

import (
	"regexp"
	"slices"
	"strings"
)

// Forms of names, from the ECS API reference (ServiceConnectService,
// ServiceConnectClientAlias).
var (
	discoveryName = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]{0,63}$`)
	dnsName       = regexp.MustCompile(`^[a-z0-9_][a-z0-9_.-]{0,126}$`)
	hostName      = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$`)
	number        = regexp.MustCompile(`^([0-9]+|0x[0-9a-f]*)$`)
	taskName      = regexp.MustCompile(`^[0-9a-zA-Z_-]{1,64}$`)
	// kmsKey is a KeyId of KMS; the longest, the ARN of an alias, has some 320.
	kmsKey = regexp.MustCompile(`^[0-9a-zA-Z:/_-]{1,512}$`)
)

// ValidDiscoveryName reports whether s may be a discoveryName or a portName.
func ValidDiscoveryName(s string) bool { return discoveryName.MatchString(s) }

// ValidKMSKey reports whether s may name a KMS key: id, alias/NAME, or the ARN
// of either.
func ValidKMSKey(s string) bool { return kmsKey.MatchString(s) }

// DNSNameForm is what [ValidDNSName] allows, for messages.
const DNSNameForm = "up to 127 of [a-z0-9_.-], not starting with '-', in labels of 1 to 63, neither localhost nor what is read as an IP address"

// HostForm is what [ValidHost] allows, for messages.
const HostForm = "a DNS name in labels of 1 to 63 of [A-Za-z0-9_-], and not what is read as an IP address"

// ownNames are those that a hosts file has for the machine itself.
var ownNames = []string{
	"localhost", "localhost.localdomain", "localhost4", "localhost6", "broadcasthost",
	"ip6-localhost", "ip6-loopback", "ip6-localnet", "ip6-mcastprefix", "ip6-allnodes", "ip6-allrouters", "ip6-allhosts",
}

// ValidDNSName reports whether s may be a clientAlias's dnsName. Besides ECS's
// characters it refuses what a hosts file could not hold as one name, what no
// resolver looks up, and the names that every task has for itself.
func ValidDNSName(s string) bool {
	return dnsName.MatchString(s) && labelled(s, 64) && !slices.Contains(ownNames, s) && !strings.HasSuffix(s, ".localhost")
}

// ValidHost reports whether s may be the name of a host outside the mesh.
func ValidHost(s string) bool { return hostName.MatchString(s) && labelled(strings.ToLower(s), 63) }

// labelled reports whether the labels of a name in lower case can be looked up.
// One that ends in a number is an IP address to most who read it: 127.1,
// 2130706433, 0x7f.1 are all 127.0.0.1. The first label of an alias may be a
// discoveryName, which has up to 64 characters in ECS.
func labelled(s string, first int) bool {
	labels := strings.Split(s, ".")
	for i, l := range labels {
		if l == "" || len(l) > 63 && (i > 0 || len(l) > first) {
			return false
		}
	}
	return !number.MatchString(labels[len(labels)-1])
}

// ValidTask reports whether s may be a task's name.
func ValidTask(s string) bool { return taskName.MatchString(s) }
