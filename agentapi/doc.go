// Package agentapi is the wire form of the agent stream (patchbay.agent.v1),
// generated from agent.proto by `make proto`. It owns no behaviour: the
// control plane's end is package agents, the task's end is package sidecar.
package agentapi
