package api

import "strings"

// OtherTask is the node of a task that may look at an address, HOST:PORT: one
// at another host, if there is one, whose agent is connected and does not drain.
// It is empty if there is none.
func (s *Status) OtherTask(address string) string {
	node := ""
	for _, one := range s.Sidecars {
		if one.Agent == nil || one.Agent.Draining {
			continue
		}
		if !strings.HasPrefix(address, one.Address+":") {
			return one.Node
		}
		node = one.Node
	}
	return node
}
