package suggest

import "testing"

func TestNear(t *testing.T) {
	keys := []string{"cloudMap", "registry", "namespaces", "listen", "url", "passwordFile", "retries"}
	for word, want := range map[string]string{
		"cloudmap": "cloudMap", "cloud_map": "cloudMap", "registri": "registry", "namespace": "namespaces", "lisen": "listen",
		"URL": "url", "ur": "", "": "", "x": "", "provisioner": "", "listenAddress": "", "pass": "passwordFile", "pas": "", "registries": "registry", "retry": "retries",
	} {
		if got := Near(word, keys); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func TestService(t *testing.T) {
	all := []string{"backend.demo", "web.demo", "web.prod"}
	for name, want := range map[string]string{
		"backend.demo": "backend.demo", "backend": "backend.demo", "web.prod": "web.prod",
		"web":         `service "web" is in more than one namespace: name one of these: web.demo, web.prod`,
		"bakend":      `service "bakend" is not in the mesh; did you mean backend.demo?`,
		"bakend.demo": `service "bakend.demo" is not in the mesh; did you mean backend.demo?`,
		"nobody":      `service "nobody" is not in the mesh; there are: backend.demo, web.demo, web.prod`,
	} {
		got, err := Service(name, all)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	if _, err := Service("web", nil); err == nil || err.Error() != `service "web" is not in the mesh; there is none` {
		t.Error(err)
	}
	if got := Part("bakend", []string{"demo/frontend/f1", "demo/backend/b1"}); got != "demo/backend/b1" {
		t.Error(got)
	}
}
