package answers

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"patchbay/admin/api"
	"patchbay/config"
	"patchbay/inspect/compare"
	"patchbay/inspect/forecast"
	"patchbay/mesh"
)

// maxPlan bounds a plan.
const maxPlan = 4 << 20

// forecast is POST /api/v1/diff: it changes nothing, so it may do who may read.
func (s *Source) forecast(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	var plan api.Plan
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPlan))
	if err == nil {
		err = json.Unmarshal(body, &plan)
	}
	var out *api.Forecast
	if err == nil {
		out, err = s.planned(plan)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(map[string]string{"error": "plan: " + err.Error()}) //nolint:errcheck // the caller has gone
		return
	}
	json.NewEncoder(w).Encode(out) //nolint:errcheck // the caller has gone
}

func (s *Source) planned(plan api.Plan) (*api.Forecast, error) {
	now := s.Store.Snapshot()
	next, refused, notes := forecast.Overlay(now, plan.Services, time.Now())
	var keys []api.Change
	if plan.Config != nil {
		was, err := s.Config.Keys()
		if err != nil {
			return nil, err
		}
		if keys, err = compare.Values(was, plan.Config); err != nil {
			return nil, err
		}
		var more []string
		if next, more, err = s.without(next, plan.Config); err != nil {
			return nil, err
		}
		if notes = append(notes, more...); slices.ContainsFunc(keys, func(k api.Change) bool { return strings.HasPrefix(k.Path, "/tracing") }) {
			notes = append(notes, "tracing is in every listener: each is replaced, and its connections end when it has drained")
		}
	}
	for _, p := range plan.Services {
		if _, there := s.Config.Issuers[p.Issuer]; p.Issuer != "" && !there {
			refused = append(refused, fmt.Sprintf("%s.%s asks for TLS from issuer %q, which is not among issuers of the control plane's file", p.DiscoveryName, p.Namespace, p.Issuer))
		}
	}
	out, err := forecast.Of(now, next, s.Pusher.Seen())
	if err != nil {
		return nil, err
	}
	out.Refused, out.Notes, out.Config = refused, notes, keys
	return out, nil
}

// without is the mesh as a control plane with other keys would show it, and
// what must be known of them.
func (s *Source) without(snap *mesh.Snapshot, keys map[string]any) (*mesh.Snapshot, []string, error) {
	notes := []string{"the control plane reads its file when it starts: until then nothing changes, and sidecars keep what they have meanwhile"}
	next := *snap
	named, _ := keys["namespaces"].([]any)
	issuers, _ := keys["issuers"].(map[string]any)
	next.Services = slices.DeleteFunc(slices.Clone(snap.Services), func(v *mesh.Service) bool {
		return !slices.ContainsFunc(named, func(n any) bool { return strings.ToLower(fmt.Sprint(n)) == v.Name.Namespace })
	})
	for _, v := range next.Services {
		if v.TLS != nil && issuers[v.TLS.Issuer] == nil {
			notes = append(notes, fmt.Sprintf("%s has its certificate from issuer %q, which the file no longer names: it is not renewed", v.Name, v.TLS.Issuer))
		}
	}
	var cfg config.Config
	text, err := yaml.Marshal(keys)
	if err == nil {
		err = yaml.Unmarshal(text, &cfg)
	}
	if err != nil {
		return nil, nil, err
	}
	targets, err := s.Targets(cfg)
	if err != nil {
		return nil, nil, err
	}
	with, more := forecast.Targets(&next, targets)
	return with, append(notes, more...), nil
}
