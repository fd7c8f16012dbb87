package diagnose

import (
	"maps"
	"slices"
)

func checkTasks(*Facts, func(Finding)) {}

func sortedAddrs(m map[string]Port) []string { return slices.Sorted(maps.Keys(m)) }
