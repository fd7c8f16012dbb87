package show

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"patchbay/admin/api"
)

// Tapped prints a request: on one line what it was, and below it what went
// wrong, and its headers.
func (p *Printer) Tapped(r *api.Tapped) {
	what := "connection"
	if r.Protocol != "tcp" {
		what = strings.TrimSpace(r.Method + " " + r.Authority + r.Path)
	}
	p.line("%s %s %s %s %s %.1f ms, %s in, %s out, %s", p.paint(faint, r.Time.Local().Format("15:04:05.000")), r.Node, r.Direction,
		p.paint(bold, printable(what)), p.outcome(r), r.DurationMs, size(r.Received), size(r.Sent), ends(r))
	var why []string
	if why = append(why, r.Flags...); r.Failure != "" {
		why = append(why, r.Failure)
	}
	if len(why) > 0 {
		if r.Details != "" {
			why = append(why, "details: "+r.Details)
		}
		p.line("    %s", p.paint(weak, printable(strings.Join(why, "; "))))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		p.line("    %s: %s", printable(name), printable(r.Headers[name]))
	}
}

func (p *Printer) outcome(r *api.Tapped) string {
	text, colour := strconv.Itoa(int(r.Status)), good
	switch {
	case r.Status == 0 && r.Protocol == "tcp":
		text, colour = "ended", faint
	case r.Status == 0:
		text, colour = "no answer", bad
	case r.Status >= 500:
		colour = bad
	case r.Status >= 400:
		colour = weak
	}
	text = p.paint(colour, text)
	if r.GRPCStatus != "" {
		text += " grpc " + printable(r.GRPCStatus)
	}
	return text
}

// ends says between whom it was, and how that was protected.
func ends(r *api.Tapped) string {
	secured := r.TLS
	switch {
	case secured != "":
	case r.Direction == "egress" && strings.Contains(r.Failure, "TLS"):
		secured = "no TLS: the handshake failed"
	case r.Direction == "egress" && slices.Contains(r.Flags, "upstream connection failure"):
		secured = "no connection"
	default:
		secured = "plain"
	}
	if r.Direction == "ingress" {
		who := r.From
		if r.Caller != "" {
			who = r.Caller + " " + r.From
		}
		return fmt.Sprintf("from %s (%s)", printable(who), secured)
	}
	text := "to nobody"
	if r.Upstream != "" {
		text = fmt.Sprintf("to %s (%s)", strings.TrimSpace(r.Service+" "+r.Upstream), secured)
	} else if r.Service != "" {
		text = "to no endpoint of " + r.Service
	}
	if r.Attempts > 1 {
		text += fmt.Sprintf(", at the %d. attempt", r.Attempts)
	}
	return text
}

// size is a number of bytes.
func size(n uint64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1000)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1_000_000)
}

// printable keeps what strangers chose from moving the cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}
