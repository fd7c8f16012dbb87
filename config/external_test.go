package config

import (
	"testing"

	"patchbay/mesh"
)

// TestAliasIn: an alias that is declared in part, or not at all.
func TestAliasIn(t *testing.T) {
	c := Config{Namespaces: []string{"Prod"}}
	for name, row := range map[string]struct {
		e    External
		want mesh.Alias
	}{
		"nothing of http":   {External{Protocol: "http", Addresses: []string{"a.example:443"}}, mesh.Alias{DNSName: "x.prod", Port: 80}},
		"nothing of tcp":    {External{Addresses: []string{"a.example:5432", "b.example:1"}}, mesh.Alias{DNSName: "x.prod", Port: 5432}},
		"a port":            {External{Protocol: "tcp", Alias: ExternalAlias{Port: 1}, Addresses: []string{"10.0.0.1:5432"}}, mesh.Alias{DNSName: "x.prod", Port: 1}},
		"a name":            {External{Protocol: "grpc", Alias: ExternalAlias{DNSName: "API"}, Addresses: []string{"a.example:443"}}, mesh.Alias{DNSName: "api", Port: 80}},
		"no valid address":  {External{Addresses: []string{"a.example"}}, mesh.Alias{DNSName: "x.prod"}},
		"another namespace": {External{Namespace: "Dev", Protocol: "http2", Addresses: []string{"a.example:443"}}, mesh.Alias{DNSName: "x.dev", Port: 80}},
	} {
		row.e.Name = "x"
		if got := row.e.AliasIn(c); got != row.want {
			t.Errorf("%s: %+v, want %+v", name, got, row.want)
		}
	}
}
