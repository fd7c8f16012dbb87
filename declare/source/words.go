package source

import (
	"strings"
	"unicode"

	"patchbay/declare/definition"
	"patchbay/declare/tree"
)

// camel turns a word of Terraform into ECS's; snake is the other way.
func camel(key string) string {
	if w, ok := oddWords[key]; ok {
		return w
	}
	if key == "size_in_gb" { // of a managed volume
		return "sizeInGiB"
	}
	parts := strings.Split(key, "_")
	for i := 1; i < len(parts); i++ {
		if parts[i] != "" {
			parts[i] = strings.ToUpper(parts[i][:1]) + parts[i][1:]
		}
	}
	return strings.Join(parts, "")
}

func snake(key string) string {
	for odd, w := range oddWords {
		if w == key {
			return odd
		}
	}
	var b strings.Builder
	for i, c := range key {
		if unicode.IsUpper(c) {
			if i > 0 {
				b.WriteByte('_')
			}
			c = unicode.ToLower(c)
		}
		b.WriteRune(c)
	}
	return b.String()
}

// oddWords are Terraform's blocks and arguments that are called otherwise in
// the ECS API.
var oddWords = map[string]string{
	"service": "services", "client_alias": "clientAliases", "secret_option": "secretOptions",
	"issuer_cert_authority": "issuerCertificateAuthority", "size_in_gib": "sizeInGiB",
	"load_balancer": "loadBalancers", "volume": "volumes", "container_configuration": "containerConfigurations",
	"ordered_placement_strategy": "placementStrategy", "lifecycle_hook": "lifecycleHooks",
	"volume_configuration": "volumeConfigurations", "managed_ebs_volume": "managedEBSVolume", "file_system_type": "filesystemType", "efs_volume_configuration": "efsVolumeConfiguration",
}

// pascal is ECS's word in CloudFormation.
func pascal(key string) string {
	if key == "" {
		return ""
	}
	return strings.ToUpper(key[:1]) + key[1:]
}

func unpascal(key string) string {
	if key == "" {
		return ""
	}
	return strings.ToLower(key[:1]) + key[1:]
}

// free are ECS's members whose keys are the user's own.
var free = map[string]bool{"options": true, "dockerLabels": true, "driverOpts": true, "labels": true}

// FromTemplate turns properties of CloudFormation into ECS's words. Intrinsic
// functions stay what they are.
func FromTemplate(v any) any { return rename(v, unpascal) }

// ToTemplate is the other way.
func ToTemplate(v any) any { return rename(v, pascal) }

func rename(v any, word func(string) string) any {
	switch v := v.(type) {
	case *tree.Object:
		if v == nil || definition.Intrinsic(v) {
			return v
		}
		o := &tree.Object{}
		for _, key := range v.Keys() {
			if free[unpascal(key)] {
				o.Set(word(key), v.Get(key))
				continue
			}
			o.Set(word(key), rename(v.Get(key), word))
		}
		return o
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = rename(e, word)
		}
		return list
	default:
		return v
	}
}
