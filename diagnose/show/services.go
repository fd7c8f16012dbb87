package show

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/admin/api"
	"patchbay/diagnose"
)

func (p *Printer) services(st *api.Status, findings []diagnose.Finding) {
	wide := p.Format == Wide
	header := []string{"SERVICE", "PROTOCOL", "CALLED AS", "ENDPOINTS", "ZONES", "TLS", "ENCRYPTED", "SOURCE", "LEAF"}
	if wide {
		header = append(header, "VIP", "REVISIONS", "ISSUER", "SERIAL")
	}
	header = append(header, "")
	var rows [][]string
	for _, s := range st.Services {
		row := []string{s.Name, dash(s.Protocol), aliases(s), p.endpoints(s), counts(s.Zones), p.tls(s), p.encrypted(s), p.source(s), "-"}
		if s.TLS != nil {
			row[8] = p.leaf(s.TLS.NotAfter, st.At)
		}
		if wide {
			issuer, serial := "-", "-"
			if s.TLS != nil {
				issuer, serial = dash(s.TLS.Issuer), dash(s.TLS.Serial)
			}
			row = append(row, vips(s), counts(s.Revisions), issuer, serial)
		}
		rows = append(rows, append(row, p.note(findings, s.Name)))
	}
	p.table(header, rows)
}

func aliases(s api.Service) string {
	var out []string
	for _, a := range s.Aliases {
		if a.LostTo == "" {
			out = append(out, a.DNSName+":"+strconv.Itoa(int(a.Port)))
		}
	}
	return dash(strings.Join(out, " "))
}

func vips(s api.Service) string {
	seen := map[string]bool{}
	for _, a := range s.Aliases {
		if a.VIP != "" {
			seen[a.VIP] = true
		}
	}
	return dash(strings.Join(slices.Sorted(maps.Keys(seen)), " "))
}

// endpoints is "2 healthy, 1 unhealthy".
func (p *Printer) endpoints(s api.Service) string {
	if len(s.External) > 0 {
		text := "outside: " + strings.Join(s.External, " ")
		if len(s.Callers) > 0 {
			text += ", for " + strings.Join(s.Callers, ", ")
		}
		return text
	}
	var out []string
	for _, h := range []string{"HEALTHY", "UNKNOWN", "UNHEALTHY"} {
		if n := s.Endpoints[h]; n > 0 {
			text := fmt.Sprintf("%d %s", n, strings.ToLower(h))
			if h == "UNHEALTHY" {
				text = p.paint(bad, text)
			}
			out = append(out, text)
		}
	}
	if s.Held > 0 {
		out = append(out, p.paint(weak, fmt.Sprintf("%d held", s.Held)))
	}
	if len(out) == 0 {
		return p.paint(bad, "none")
	}
	return strings.Join(append(out, divided(s.Deployment)...), ", ")
}

func counts(m map[string]int) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s:%d", k, m[k]))
	}
	return dash(strings.Join(out, " "))
}

// tls is how much of a service's traffic can be encrypted.
func (p *Printer) tls(s api.Service) string {
	n := 0
	for _, k := range s.Endpoints {
		n += k
	}
	switch {
	case s.TLS == nil:
		return "plain"
	case len(s.External) > 0:
		return p.paint(good, "verified")
	case s.Encrypted < n:
		return p.paint(weak, fmt.Sprintf("%d of %d", s.Encrypted, n))
	}
	return p.paint(good, "1.3")
}

// encrypted is how much of its traffic was.
func (p *Printer) encrypted(s api.Service) string {
	switch share := s.EncryptedShare; {
	case share == nil:
		return "-"
	case *share < 1:
		return p.paint(bad, fmt.Sprintf("%.1f %%", math.Floor(1000**share)/10))
	}
	return p.paint(good, "100 %")
}

func (p *Printer) source(s api.Service) string {
	age := ""
	if s.AgeSeconds != nil {
		age = " " + span(time.Duration(*s.AgeSeconds*float64(time.Second)))
	}
	if s.Source == "live" {
		return s.Source + age
	}
	return p.paint(weak, s.Source+age)
}
