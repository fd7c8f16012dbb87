package registry

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"

	"patchbay/internal/etcdtest"
	"patchbay/registry/store"
)

// TestKilledProcess kills -9 a process that registers instances, and finds
// every one that it said was acknowledged.
func TestKilledProcess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "registry.db")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestRegisterForEver$")
	cmd.Env = append(os.Environ(), "REGISTRY_FILE="+file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	for lines := bufio.NewScanner(out); len(acknowledged) < 40 && lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "acknowledged "); ok {
			acknowledged = append(acknowledged, id)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	if len(acknowledged) < 40 {
		t.Fatalf("the process acknowledged %d", len(acknowledged))
	}
	ids, revision := discover(t, reopened(t, file), all)
	for _, id := range acknowledged {
		if !strings.Contains(ids+" ", id+":HEALTHY ") {
			t.Errorf("%s is lost", id)
		}
	}
	if int(revision) < len(acknowledged) {
		t.Errorf("revision %d after %d registrations", revision, len(acknowledged))
	}
}

// reopened serves the file that another process has left, and has carried out
// what that one had accepted.
func reopened(t *testing.T, file string) *servicediscovery.Client {
	t.Helper()
	st, err := store.OpenBolt(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	c := client(t, newServer(t, st))
	for _, status := range []string{"SUBMITTED", "PENDING"} {
		for open := 1; open > 0; {
			open = 0
			pages := servicediscovery.NewListOperationsPaginator(c, &servicediscovery.ListOperationsInput{Filters: []types.OperationFilter{{Name: types.OperationFilterNameStatus, Values: []string{status}}}})
			for pages.HasMorePages() {
				open += len(must[*servicediscovery.ListOperationsOutput](t)(pages.NextPage(t.Context())).Operations)
			}
		}
	}
	return c
}

// TestRegisterForEver is the process that TestKilledProcess kills. Without
// its file it has nothing to do.
func TestRegisterForEver(t *testing.T) {
	file := os.Getenv("REGISTRY_FILE")
	if file == "" && os.Getenv("REGISTRY_ETCD") == "" {
		return
	}
	var st store.Store
	var err error
	if file != "" {
		st, err = store.OpenBolt(file)
	} else {
		e := &etcdtest.Server{URL: os.Getenv("REGISTRY_ETCD")}
		st = inEtcd(e.In(t))
	}
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, newServer(t, st))
	id := life(t, c)
	for i := range 900 {
		name := fmt.Sprintf("n%d", i)
		must[*servicediscovery.RegisterInstanceOutput](t)(c.RegisterInstance(t.Context(), &servicediscovery.RegisterInstanceInput{ServiceId: &id, InstanceId: &name, Attributes: map[string]string{"AWS_INSTANCE_IPV4": "10.0.0.1"}}))
		fmt.Println("acknowledged", name)
	}
}
