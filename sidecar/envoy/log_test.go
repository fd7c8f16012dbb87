package envoy

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestALineThatRepeatsIsToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b strings.Builder
		l := &lines{log: slog.New(slog.NewTextHandler(&b, nil))}
		for i := range 90 {
			fmt.Fprintf(l, "warning|config|stream to xds closed since %ds ago: 14\n", i)
			time.Sleep(time.Second)
		}
		fmt.Fprint(l, "warning|config|another thing\n")
		got := b.String()
		if n := strings.Count(got, "stream to xds closed"); n != 2 {
			t.Errorf("told %d times:\n%s", n, got)
		}
		if !strings.Contains(got, "since 60s ago: 14\" repeated=59") || !strings.Contains(got, "another thing") {
			t.Error(got)
		}
	})
}

// TestAnUnlimitedNumberOfConnectionsIsMeant: nobody is warned of it.
func TestAnUnlimitedNumberOfConnectionsIsMeant(t *testing.T) {
	var b strings.Builder
	l := &lines{log: slog.New(slog.NewTextHandler(&b, nil))}
	fmt.Fprint(l, "warning|config|There is no configured limit to the number of allowed active downstream connections. Configure a limit in `envoy.resource_monitors.global_downstream_max_connections` resource monitor.\nwarning|config|another thing\n")
	if got := b.String(); strings.Contains(got, "no configured limit") || !strings.Contains(got, "another thing") {
		t.Error(got)
	}
}
