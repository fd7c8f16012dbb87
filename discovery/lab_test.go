package discovery_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"patchbay/registry"
	"patchbay/registry/watch"
)

// INTERIM until the registry serves its watch itself.
func newRegistry(t *testing.T) http.Handler {
	reg, err := registry.New(registry.NewMemory(), registry.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	log := watch.NewLog(1024)
	names := map[string]string{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == watch.Path {
			log.ServeHTTP(w, r)
			return
		}
		_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		rec := httptest.NewRecorder()
		reg.ServeHTTP(rec, r)
		var in struct{ ServiceId, Name string }
		var out struct{ Service struct{ Id string } }
		_ = json.Unmarshal(body, &in)
		_ = json.Unmarshal(rec.Body.Bytes(), &out)
		if rec.Code == 200 {
			switch op {
			case "CreateHttpNamespace":
				log.Append(watch.Event{Kind: watch.Namespaces, Namespace: in.Name})
			case "CreateService":
				names[out.Service.Id] = in.Name
				log.Append(watch.Event{Kind: watch.Services, Namespace: "prod", Service: in.Name})
			case "UpdateServiceAttributes", "DeleteServiceAttributes":
				log.Append(watch.Event{Kind: watch.Attributes, Namespace: "prod", Service: names[in.ServiceId]})
			case "RegisterInstance", "DeregisterInstance":
				log.Append(watch.Event{Kind: watch.Instances, Namespace: "prod", Service: names[in.ServiceId]})
			case "UpdateInstanceCustomHealthStatus":
				log.Append(watch.Event{Kind: watch.Health, Namespace: "prod", Service: names[in.ServiceId]})
			}
		}
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
}
