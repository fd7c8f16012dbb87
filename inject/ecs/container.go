package ecs

import (
	"fmt"
	"strings"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

// stopTimeout is how long ECS waits for the sidecar: twelve seconds until every
// caller knows that the task stops, twenty for what is under way, and some air.
const stopTimeout = 40

// sidecar is the container. Applications wait for it to be healthy; because
// they depend on it, ECS stops them first. Not so in bridge mode.
func (in *inject) sidecar() *tree.Object {
	cpu, memory := in.advice()
	c := tree.Of(
		"name", Sidecar,
		"image", in.s.Image,
		"cpu", tree.Number(cpu),
		"memoryReservation", tree.Number(memory),
		"essential", true,
		"user", "0",
		"command", []any{"sidecar"},
		"environment", in.environment(),
		"healthCheck", tree.Of(
			"command", []any{"CMD", "/usr/local/bin/patchbay", "sidecar", "health"},
			"interval", tree.Number(5), "timeout", tree.Number(5), "retries", tree.Number(10), "startPeriod", tree.Number(120),
		),
		"stopTimeout", tree.Number(stopTimeout),
		"ulimits", []any{tree.Of("name", "nofile", "softLimit", tree.Number(65535), "hardLimit", tree.Number(65535))},
	)
	if ports := in.ports(); len(ports) > 0 {
		c.Set("portMappings", ports)
	}
	if in.wiring() == "redirect" {
		c.Set("linuxParameters", tree.Of("capabilities", tree.Of("add", []any{"NET_ADMIN"})))
	}
	if low := in.low(); len(low) > 0 && in.d.NetworkMode() == definition.AWSVPC && !in.controlled() {
		c.Set("systemControls", []any{tree.Of("namespace", anyPort, "value", "0")})
	}
	if in.d.NetworkMode() == definition.Bridge {
		c.Set("dependsOn", in.offering())
	}
	if log := in.log(); log != nil {
		c.Set("logConfiguration", log)
	}
	return c
}

func (in *inject) environment() []any {
	var list []any
	add := func(name, value string) { list = append(list, tree.Of("name", name, "value", value)) }
	add("PATCHBAY_AGENT", in.s.Agent)
	if in.wiring() == "redirect" && in.connectedOnly() {
		add("PATCHBAY_CLOSE_DEAD", "true")
	}
	if in.s.Join != nil {
		add("PATCHBAY_JOIN_FILES", in.joinFiles())
	}
	add("PATCHBAY_SERVICE_CONNECT", in.declaration())
	add("PATCHBAY_STOP_TIMEOUT", fmt.Sprintf("%ds", stopTimeout))
	add("PATCHBAY_WIRING", in.wiring())
	add("PATCHBAY_XDS", strings.Join(in.s.XDS, ","))
	return list
}

// offering are the containers whose ports are offered, as what the sidecar waits
// for: in bridge mode each container has an address of its own.
func (in *inject) offering() []any {
	seen := map[string]bool{}
	var list []any
	for _, p := range in.task.Ports {
		for _, m := range in.d.Mappings() {
			if m.Fields.Text("name") == p.PortName && !seen[m.Container] {
				seen[m.Container] = true
				list = append(list, tree.Of("containerName", m.Container, "condition", "START"))
			}
		}
	}
	return list
}

// log is where the sidecar logs: as the block says, else as the first
// application does.
func (in *inject) log() *tree.Object {
	service := in.written(in.d.Service, in.d.ServiceRaw)
	if l := service.Object(block).Object("logConfiguration"); l != nil {
		return l
	}
	for _, c := range in.out.Objects("containerDefinitions") {
		if l := c.Object("logConfiguration"); l != nil && c.Object("firelensConfiguration") == nil {
			return l.Clone()
		}
	}
	return nil
}
