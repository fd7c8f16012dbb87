package source

import (
	"encoding/json"

	"patchbay/declare/tree"
)

// numeric and boolean are the members that a template may write as texts.
var (
	numeric = map[string]bool{
		"containerPort": true, "hostPort": true, "ingressPortOverride": true, "port": true, "idleTimeoutSeconds": true,
		"perRequestTimeoutSeconds": true, "desiredCount": true, "memoryReservation": true, "stopTimeout": true, "startTimeout": true,
		"interval": true, "timeout": true, "retries": true, "startPeriod": true, "bakeTimeInMinutes": true,
		"canaryPercent": true, "canaryBakeTimeInMinutes": true, "stepPercent": true, "stepBakeTimeInMinutes": true,
	}
	boolean = map[string]bool{"enabled": true, "essential": true, "readonlyRootFilesystem": true, "privileged": true}
)

// numbers turns such texts into what ECS has.
func numbers(v any) {
	switch v := v.(type) {
	case *tree.Object:
		for _, key := range v.Keys() {
			s, isText := v.Get(key).(string)
			switch {
			case isText && numeric[key] && decimal.MatchString(s):
				v.Set(key, json.Number(s))
			case isText && boolean[key] && (s == "true" || s == "false"):
				v.Set(key, s == "true")
			default:
				numbers(v.Get(key))
			}
		}
	case []any:
		for _, e := range v {
			numbers(e)
		}
	}
}
