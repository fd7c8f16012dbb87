package suggest

import "testing"

func TestNear(t *testing.T) {
	keys := []string{"cloudMap", "registry", "namespaces", "listen", "url", "passwordFile"}
	for word, want := range map[string]string{
		"cloudmap": "cloudMap", "cloud_map": "cloudMap", "registri": "registry", "namespace": "namespaces", "lisen": "listen",
		"URL": "url", "ur": "", "": "", "x": "", "provisioner": "", "listenAddress": "", "pass": "passwordFile", "pas": "",
	} {
		if got := Near(word, keys); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
