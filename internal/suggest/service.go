package suggest

import (
	"fmt"
	"slices"
	"strings"
)

// most is how many names an error lists.
const most = 10

// Service returns the one of all, each discoveryName.namespace, that a name
// means: the full name, or the discovery name where one namespace alone has it.
// The error says which were meant, or which there are.
func Service(name string, all []string) (string, error) {
	if slices.Contains(all, name) {
		return name, nil
	}
	var found []string
	for _, one := range all {
		if short, _, _ := strings.Cut(one, "."); short == name {
			found = append(found, one)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		slices.Sort(found)
		return "", fmt.Errorf("service %q is in more than one namespace: name one of these: %s", name, list(found))
	}
	meant := "there is none"
	if near := Part(name, all); near != "" {
		meant = "did you mean " + near + "?"
	} else if len(all) > 0 {
		meant = "there are: " + list(slices.Sorted(slices.Values(all)))
	}
	return "", fmt.Errorf("service %q is not in the mesh; %s", name, meant)
}

func list(all []string) string {
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}

// Part is [Near] for names of parts, of services and of nodes: one whose part is
// near is, too. The first of them is returned, as a whole.
func Part(name string, all []string) string {
	if near := Near(name, all); near != "" {
		return near
	}
	var parts, wholes []string
	for _, one := range all {
		for part := range strings.SplitSeq(one, "/") {
			short, _, _ := strings.Cut(part, ".")
			parts, wholes = append(parts, short), append(wholes, one)
		}
	}
	if i := slices.Index(parts, Near(name, parts)); i >= 0 {
		return wholes[i]
	}
	return ""
}
