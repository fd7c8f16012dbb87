package config

import "go.yaml.in/yaml/v3"

// Keys is the configuration by the keys of its file. It holds paths of secrets,
// never a secret.
func (c Config) Keys() (out map[string]any, err error) {
	b, err := yaml.Marshal(c)
	if err == nil {
		err = yaml.Unmarshal(b, &out)
	}
	return out, err
}
