package diagnose

import (
	"fmt"
)

// Area is one part of a diagnosis, and what was looked at there.
type Area struct {
	Name     string    `json:"name"`
	Seen     string    `json:"seen"`
	Findings []Finding `json:"findings"`
}

// Areas are the parts of a diagnosis in the order of [Check], each with its
// findings. Without a control plane there is but the first.
func Areas(f *Facts) []Area {
	all := Check(f)
	of := func(prefixes ...string) []Finding {
		out := []Finding{}
		for _, x := range all {
			for _, p := range prefixes {
				if len(x.Code) >= len(p) && x.Code[:len(p)] == p {
					out = append(out, x)
				}
			}
		}
		return out
	}
	out := []Area{{"control plane", seenControl(f), of("PB100")}}
	if f.Status == nil {
		return out
	}
	st := f.Status
	encrypted := 0
	for _, s := range st.Services {
		if s.TLS != nil {
			encrypted++
		}
	}
	good := 0
	for _, p := range f.Ports {
		if p.OK {
			good++
		}
	}
	return append(out,
		Area{"configuration", fmt.Sprintf("%d namespaces, %d services and their names", len(st.Namespaces), len(st.Services)), of("PB11")},
		Area{"certificates", fmt.Sprintf("%d issuers, certificates of %d services", len(st.Issuers), encrypted), of("PB12")},
		Area{"Envoys", fmt.Sprintf("%d sidecars; looked into %d", len(st.Sidecars), len(f.Tasks)), of("PB13")},
		Area{"tasks", fmt.Sprintf("applications, names and clocks of %d sidecars", len(st.Sidecars)), of("PB14")},
		Area{"traffic", fmt.Sprintf("endpoints of %d services; %d handshakes, %d of them in order", len(st.Services), len(f.Ports), good), of("PB15")},
	)
}

func seenControl(f *Facts) string {
	if f.Status == nil {
		return f.Address
	}
	return fmt.Sprintf("%s (patchbay %s), its registry and its permissions", f.Status.Replica, f.Status.Version)
}
