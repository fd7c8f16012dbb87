package record

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"patchbay/mesh"
)

// TestPage holds the names of docs/reference/cloudmap-attributes.md against
// those of the code, both ways.
func TestPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/reference/cloudmap-attributes.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	attributes := []string{
		AttrIPv4, AttrIPv6, AttrPort, AttrInitHealth, AttrZone, AttrTLS, AttrRevision, AttrSettings, AttrProtocol, AttrOwner, AttrTask, AttrSince, AttrLease,
	}
	for _, a := range attributes {
		if !strings.Contains(page, "`"+a+"`") {
			t.Errorf("the page lacks %s", a)
		}
	}
	for _, a := range regexp.MustCompile("`(PATCHBAY_[A-Z_]+)`").FindAllStringSubmatch(page, -1) {
		if !slices.Contains(attributes, a[1]) {
			t.Errorf("the page names %s; the code does not know it", a[1])
		}
	}
	for _, s := range []string{AttrCurrent, AttrVIPs, AttrShift, AttrShiftStep, AttrShiftEnd, settingsPrefix + "HASH.N", TagManagedBy + "=" + TagManagedByValue, TagWorkload + "=NAMESPACE/NAME", Description} {
		if !strings.Contains(page, "`"+s+"`") {
			t.Errorf("the page lacks %s", s)
		}
	}
	for _, err := range []error{mesh.ErrNoAddress, mesh.ErrHostName, mesh.ErrScoped, mesh.ErrUnspecified, mesh.ErrLinkLocal, mesh.ErrVirtual, mesh.ErrPort, ErrTLSFlag} {
		if !strings.Contains(page, "`"+Reason(err)+"`") {
			t.Errorf("the page lacks the reason %s", Reason(err))
		}
	}
}
