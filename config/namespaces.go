package config

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

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
		k.bad("namespaces", "is missing; allowed: a list with at least one Cloud Map namespace, such as [demo]")
	}
	seen := map[string]bool{}
	for i, n := range list {
		at := "namespaces[" + strconv.Itoa(i) + "]"
		local := strings.ToLower(n)
		switch {
		case !mesh.ValidDNSName(local):
			k.bad(at, "%s; allowed: the name of a namespace that is a DNS name when written in lower case: up to 127 of [a-z0-9_.-]. For another, write a name for it here and what it is in cloudMap.namespaces", quote(n))
		case seen[local]:
			k.bad(at, "%s stands twice; allowed: each namespace once, whatever its case", quote(n))
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
		case !slices.Contains(c.Namespaces, local) && !k.spoiled["namespaces"]:
			k.bad(at, "is not in namespaces (%s); allowed: one of them, as it is written there", strings.Join(c.Namespaces, ", "))
		case strings.ToLower(local) != local:
			k.bad(at, "has capitals; allowed: its name in the mesh, which is lower case, here and in namespaces")
		case strings.HasPrefix(ref, "arn:") && !namespaceARNForm.MatchString(ref):
			k.bad(at, "%s; allowed: the ARN of a namespace, such as arn:aws:servicediscovery:eu-west-1:111122223333:namespace/ns-abcdefghijklmnop", quote(ref))
		case !httpNameForm.MatchString(ref) || len(ref) > 1024:
			k.bad(at, "%s; allowed: the HttpName, id or ARN of a namespace in Cloud Map", quote(ref))
		case first[ref] != "":
			k.bad(at, "%s is %s too; allowed: each namespace of Cloud Map once", quote(ref), first[ref])
		}
		if first[ref] == "" {
			first[ref] = local
		}
	}
}
