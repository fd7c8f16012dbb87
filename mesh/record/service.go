package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"patchbay/mesh"
)

// ErrNoSettings says that a service carries no settings of ours: it is foreign
// or unfinished.
var ErrNoSettings = errors.New("no settings document")

// ErrTooLarge says that a change does not fit into Cloud Map's limits.
var ErrTooLarge = errors.New("does not fit into the attributes of a Cloud Map service")

// Service is what the attributes of a service say.
type Service struct {
	Current   string              // hash of the document in force
	Documents map[string]Settings // by hash; at least the current one
	VIPs      map[string]netip.Addr
	Shift     *mesh.Shift // nil: none, or none that can be understood
}

// Settings is the document in force.
func (s Service) Settings() Settings { return s.Documents[s.Current] }

// Aliases are those of the document in force, sorted, with the VIPs that have
// been written down.
func (s Service) Aliases() []mesh.Alias {
	out := slices.Clone(s.Settings().Aliases)
	for i := range out {
		out[i].VIP = s.VIPs[out[i].DNSName]
	}
	return out
}

// ParseService reads the attributes of a service. It returns ErrNoSettings if
// there is no trace of ours, and another error if the document in force is
// incomplete, damaged or not understood; then nothing of it may be used. A
// damaged older document and a damaged VIP table are left out: VIPs follow
// from the names and are found again.
func ParseService(attrs map[string]string) (Service, error) {
	current, ok := attrs[AttrCurrent]
	if !ok {
		return Service{}, ErrNoSettings
	}
	s := Service{Current: current, Documents: map[string]Settings{}, VIPs: ParseVIPs(attrs), Shift: ParseShift(attrs)}
	for _, h := range hashes(attrs) {
		doc := joined(attrs, settingsPrefix+h+".", 0)
		settings, err := DecodeSettings([]byte(doc))
		if err == nil && hash([]byte(doc)) != h {
			err = errors.New("its content does not match its hash")
		}
		if err == nil {
			s.Documents[h] = settings
		} else if h == current {
			return Service{}, fmt.Errorf("settings document %s: %w", h, err)
		}
	}
	if _, ok := s.Documents[current]; !ok {
		return Service{}, fmt.Errorf("settings document %s: it is missing", current)
	}
	return s, nil
}

// ParseVIPs reads the VIP table alone. Entries outside the VIP range and names
// that can't be aliases are left out.
func ParseVIPs(attrs map[string]string) map[string]netip.Addr {
	out := map[string]netip.Addr{}
	text := attrs[AttrVIPs] + joined(attrs, AttrVIPs+".", 1)
	if text == "" {
		return out
	}
	var raw map[string]string
	if json.Unmarshal([]byte(text), &raw) != nil {
		return out
	}
	for name, v := range raw {
		if a, err := netip.ParseAddr(v); err == nil && validVIP(a) && mesh.ValidDNSName(name) {
			out[name] = a
		}
	}
	return out
}

// Change is a step from one set of service attributes to the next: first
// Delete, then Put, each in one call. Between the two calls the service is
// whole: what is deleted was not in force.
type Change struct {
	Delete []string // sorted
	Put    map[string]string
}

// Empty reports whether there is nothing to do.
func (c Change) Empty() bool { return len(c.Delete) == 0 && len(c.Put) == 0 }

// Plan says how to bring the attributes old to the point where settings is in
// force and vips are written down. The document that was in force is kept
// besides the new one; those before it go. Attributes of others are not touched.
// It returns an error that matches ErrTooLarge if Cloud Map has no room.
func Plan(old map[string]string, settings Settings, vips map[string]netip.Addr) (Change, error) {
	doc, h, err := settings.Encode()
	if err != nil {
		return Change{}, err
	}
	want := map[string]string{AttrCurrent: h}
	n := split(want, string(doc), func(i int) string { return settingsPrefix + h + "." + strconv.Itoa(i) })
	if n > MaxSettingsKeys/documentsKept {
		return Change{}, fmt.Errorf("settings of %d bytes: %w (%d bytes)", len(doc), ErrTooLarge, MaxSettingsKeys/documentsKept*MaxValue)
	}
	table, err := json.Marshal(vips) // map keys come out sorted
	if err != nil {
		return Change{}, fmt.Errorf("encode VIPs: %w", err)
	}
	n = split(want, string(table), func(i int) string {
		if i == 0 {
			return AttrVIPs
		}
		return AttrVIPs + "." + strconv.Itoa(i)
	})
	if n > maxVIPKeys {
		return Change{}, fmt.Errorf("%d VIPs: %w (%d bytes)", len(vips), ErrTooLarge, maxVIPKeys*MaxValue)
	}
	c := Change{Put: map[string]string{}}
	total := len(want)
	for k := range old {
		_, wanted := want[k]
		switch {
		case wanted:
		case ours(k) && !kept(k, h, old[AttrCurrent]):
			c.Delete = append(c.Delete, k)
		default:
			total++
		}
	}
	slices.Sort(c.Delete)
	if total > MaxServiceAttrs {
		return Change{}, fmt.Errorf("%d attributes, of which %d are ours: %w (%d)", total, len(want), ErrTooLarge, MaxServiceAttrs)
	}
	for k, v := range want {
		if old[k] != v {
			c.Put[k] = v
		}
	}
	return c, nil
}

// Apply is what a service carries after c.
func (c Change) Apply(old map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range old {
		if !slices.Contains(c.Delete, k) {
			out[k] = v
		}
	}
	maps.Copy(out, c.Put)
	return out
}

// kept reports whether a key that is not written now stays: the document that
// was in force does. If the one in force does not change, neither does the
// older one beside it.
func kept(key, now, before string) bool {
	if now == before {
		return strings.HasPrefix(key, settingsPrefix)
	}
	return strings.HasPrefix(key, settingsPrefix+before+".")
}

func ours(key string) bool {
	return strings.HasPrefix(key, settingsPrefix) || key == AttrVIPs || strings.HasPrefix(key, AttrVIPs+".")
}

// hashes lists the documents of which at least the first chunk is there.
func hashes(attrs map[string]string) []string {
	var out []string
	for k := range attrs {
		if h, ok := strings.CutPrefix(k, settingsPrefix); ok {
			if h, ok = strings.CutSuffix(h, ".0"); ok && !strings.Contains(h, ".") {
				out = append(out, h)
			}
		}
	}
	slices.Sort(out)
	return out
}

func joined(attrs map[string]string, prefix string, from int) string {
	var b strings.Builder
	for i := from; ; i++ {
		v, ok := attrs[prefix+strconv.Itoa(i)]
		if !ok {
			return b.String()
		}
		b.WriteString(v)
	}
}

func split(into map[string]string, text string, key func(int) string) int {
	n := 0
	for ; text != ""; n++ {
		c := min(len(text), MaxValue)
		into[key(n)] = text[:c]
		text = text[c:]
	}
	return n
}
