package config

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"patchbay/config/strict"
	"patchbay/mesh"
)

// Forms of Cloud Map: an HttpName is printable and short, everything that looks
// like an ARN must be one of a namespace.
var (
	httpNameForm     = regexp.MustCompile(`^[!-~]+$`)
	namespaceARNForm = regexp.MustCompile(`^arn:aws[a-z-]*:servicediscovery:[a-z0-9-]+:[0-9]{12}:namespace/ns-[a-z0-9]{1,61}$`)
)

// Namespace is what a namespace of the mesh is called in Cloud Map: an
// HttpName, an id or an ARN.
func (c Config) Namespace(local string) string {
	if c.CloudMap != nil && c.CloudMap.Namespaces[local] != "" {
		return c.CloudMap.Namespaces[local]
	}
	for _, n := range c.Namespaces {
		if strings.ToLower(n) == local {
			return n
		}
	}
	return local
}

func (k *checker) namespaces(list []string) {
	if len(list) == 0 {
		k.Bad("namespaces", "is missing; allowed: a list with at least one Cloud Map namespace, such as [demo]")
	}
	seen := map[string]bool{}
	for i, n := range list {
		at := "namespaces[" + strconv.Itoa(i) + "]"
		local := strings.ToLower(n)
		switch {
		case !mesh.ValidDNSName(local):
			k.Bad(at, "%s; allowed: the name of a namespace that is a DNS name when written in lower case: up to 127 of [a-z0-9_.-]. For another, write a name for it here and what it is in cloudMap.namespaces", strict.Quote(n))
		case seen[local]:
			k.Bad(at, "%s stands twice; allowed: each namespace once, whatever its case", strict.Quote(n))
		}
		seen[local] = true
	}
}

// cloudNamespaces checks what namespaces are in Cloud Map.
func (k *checker) cloudNamespaces(c Config) {
	first := map[string]string{}
	for _, local := range slices.Sorted(maps.Keys(c.CloudMap.Namespaces)) {
		at, ref := "cloudMap.namespaces."+local, c.CloudMap.Namespaces[local]
		switch {
		case !slices.Contains(c.Namespaces, local) && !k.Spoiled("namespaces"):
			k.Bad(at, "is not in namespaces (%s); allowed: one of them, as it is written there", strings.Join(c.Namespaces, ", "))
		case strings.ToLower(local) != local:
			k.Bad(at, "has capitals; allowed: its name in the mesh, which is lower case, here and in namespaces")
		case strings.HasPrefix(ref, "arn:") && !namespaceARNForm.MatchString(ref):
			k.Bad(at, "%s; allowed: the ARN of a namespace, such as arn:aws:servicediscovery:eu-west-1:111122223333:namespace/ns-abcdefghijklmnop", strict.Quote(ref))
		case !httpNameForm.MatchString(ref) || len(ref) > 1024:
			k.Bad(at, "%s; allowed: the HttpName, id or ARN of a namespace in Cloud Map", strict.Quote(ref))
		case first[ref] != "":
			k.Bad(at, "%s is %s too; allowed: each namespace of Cloud Map once", strict.Quote(ref), first[ref])
		}
		if first[ref] == "" {
			first[ref] = local
		}
	}
}
