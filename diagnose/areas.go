package diagnose

import (
	"fmt"

	"patchbay/internal/count"
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
	out := []Area{{"control plane", seenControl(f), of("PB100", "PB1010", "PB1012", "PB1013")}}
	if f.AWS != nil {
		out = append(out, Area{"AWS", seenAWS(f.AWS), of("PB1011")})
	}
	if f.Status == nil {
		return out
	}
	st := f.Status
	encrypted := 0
	for _, s := range st.Services {
		if s.TLS != nil && len(s.External) == 0 {
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
		Area{"configuration", count.Of(len(st.Namespaces), "namespace") + ", " + count.Of(len(st.Services), "service"), of("PB11")},
		Area{"certificates", count.Of(len(st.Issuers), "issuer") + ", certificates of " + count.Of(encrypted, "service"), of("PB12")},
		Area{"Envoys", fmt.Sprintf("%s; looked into %d", count.Of(len(st.Sidecars), "sidecar"), len(f.Tasks)), of("PB13")},
		Area{"tasks", "applications, names and clocks of " + count.Of(len(st.Sidecars), "sidecar"), of("PB14", "PB1606")},
		Area{"traffic", fmt.Sprintf("endpoints of %s; %s, %d of them in order", count.Of(len(st.Services), "service"), count.Of(len(f.Ports), "handshake"), good), of("PB15")},
	)
}

func seenControl(f *Facts) string {
	if f.Status == nil {
		return f.Address
	}
	return fmt.Sprintf("%s (patchbay %s), its registry and its permissions", f.Status.Replica, f.Status.Version)
}
