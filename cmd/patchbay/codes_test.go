package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"patchbay/cmd/patchbay/cli"
)

// nobody is where no control plane answers, and nothing can listen.
const nobody = "http://127.0.0.1:1"

// codeRows are commands with what each was given and the code that it ends with.
// A file "text" is there, which is nothing that any command takes; "absent" is
// not there, and "dir" is a directory.
var codeRows = map[string]int{
	"demo --cloud aws": exitUsage,
	"demo --once --containers --compose /bin/false": cli.NotPossible,

	"serve --config absent":                       exitUsage,
	"serve --config dir":                          exitUsage,
	"serve --config text":                         exitUsage,
	"serve --config-text x":                       exitUsage,
	"serve --config-text x --config y":            exitUsage,
	"serve health --admin 127.0.0.1:1":            exitFailed,
	"serve health --admin unix:absent":            exitFailed,
	"serve health --admin %":                      exitUsage,
	"registry --listen x":                         exitUsage,
	"registry --keys absent":                      exitUsage,
	"registry --keys text":                        exitUsage,
	"registry --data text":                        exitUsage,
	"registry --listen 127.0.0.1:0 --metrics :-1": exitUsage,

	"token join --data text --namespace n --workload w --out out":             exitUsage,
	"token join --data data --namespace n --workload w --out text":            exitUsage,
	"token join --task-role --data absent --namespace n --workload w --out o": exitUsage,
	"token list --data absent":                                      exitUsage,
	"token admin --data absent":                                     exitUsage,
	"token withdraw --data absent --namespace n --workload w --all": exitUsage,
	"token withdraw --namespace n --workload w":                     exitUsage,

	"inject compose absent": exitUsage,
	"inject compose dir":    exitUsage,
	"inject compose text":   exitProblems,
	"inject compose":        exitUsage,
	"inject ecs absent text -o o --xds a:1 --agent a:1":            exitUsage,
	"inject ecs text -o o --xds a:1 --agent a:1":                   exitProblems,
	"inject ecs text -o o --xds a --agent a:1":                     exitUsage,
	"inject ecs text -o o --xds a:1 --agent a:1 --previous absent": exitUsage,
	"inject ecs text -o o --xds a:1 --agent a:1 --join absent":     exitUsage,
	"inject ecs text":                      exitUsage,
	"uninject ecs absent -o o":             exitUsage,
	"uninject ecs text -o o":               exitProblems,
	"uninject ecs text":                    exitUsage,
	"import appmesh absent":                exitUsage,
	"import appmesh text":                  exitProblems,
	"sidecar --config absent":              exitUsage,
	"sidecar --config text":                exitUsage,
	"sidecar --state state":                exitUsage,
	"sidecar health --state absent":        exitFailed,
	"task run -- true":                     exitUsage,
	"task install --to out --envoy absent": cli.NotPossible,

	"status":                        exitFailed,
	"status --admin x":              exitUsage,
	"status --token-file absent":    exitUsage,
	"status --tls-ca absent":        exitUsage,
	"status --tls-ca text":          exitUsage,
	"status --tls-cert text":        exitUsage,
	"status -w --interval 0s":       exitUsage,
	"verify -w --interval -1s":      exitUsage,
	"status -o xml":                 exitUsage,
	"doctor":                        exitProblems, // that nothing answers is its first finding
	"doctor --from absent":          exitUsage,
	"doctor --from text":            exitUsage,
	"doctor --definition absent":    exitUsage,
	"doctor --definition text":      exitUsage,
	"doctor --code PB9":             exitUsage,
	"explain f1 http://b:1":         exitProblems, // the hop to the control plane fails
	"explain f1 http://b:1 -o xml":  exitUsage,
	"verify":                        exitFailed,
	"verify b --audit absent":       exitFailed, // of what there is, it can't be known
	"verify --endpoint 127.0.0.1:1": exitUsage,
	"verify --endpoint 127.0.0.1:1 --name b --ca absent": exitUsage,
	"verify --endpoint 127.0.0.1:1 --name b --ca text":   exitUsage,
	"diff f1":                            exitFailed,
	"diff":                               exitUsage,
	"diff -f absent --namespace n":       exitUsage,
	"diff -f text --namespace n":         exitUsage,
	"diff --config absent --namespace n": exitUsage,
	"xds get f1":                         exitFailed,
	"xds get f1 cluster":                 exitUsage,
	"xds watch f1":                       exitFailed,
	"tap f1":                             exitFailed,
	"page":                               exitFailed,
	"page --listen x":                    exitUsage,
	"cost":                               exitFailed,
	"cost --services -1":                 exitUsage,
	"audit verify absent":                exitUsage,
	"audit verify dir":                   exitUsage,
	"audit verify text":                  exitProblems,
	"audit verify text --noted 5":        exitUsage,
	"shift b --to green":                 exitFailed,
	"shift b --weight 1":                 exitUsage,
	"fault delay b 1s":                   exitFailed,
	"fault delay b soon":                 exitUsage,
	"fault abort b 503":                  exitFailed,
	"fault abort b ok":                   exitUsage,
	"fault drop b":                       exitFailed,
	"fault expire b":                     exitFailed,
	"fault throttle":                     exitFailed,
	"fault restart":                      exitFailed,
	"version":                            exitDone,
}

// TestCodes: each command ends with the code that stands for what happened, by
// one scheme for all of them.
func TestCodes(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("PATCHBAY_ADMIN", nobody)
	if err := errors.Join(os.WriteFile("text", []byte("nothing\n"), 0o600), os.Mkdir("dir", 0o700)); err != nil {
		t.Fatal(err)
	}
	for line, want := range codeRows {
		if code, out := command(t, strings.Fields(line)...); code != want {
			t.Errorf("%s: exit code %d, want %d:\n%s", line, code, want, out)
		}
	}
	eachCommand(newRoot(), func(c *cobra.Command) {
		if !c.Runnable() || c.Name() == "pause" || c.Name() == "audit" {
			return
		}
		own := strings.TrimPrefix(c.CommandPath(), "patchbay ")
		var wrong [][]string
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if typ := f.Value.Type(); typ != "string" && typ != "stringArray" && typ != "stringSlice" && f.NoOptDefVal == "" && typ != "func" {
				wrong = append(wrong, []string{"--" + f.Name, "x y"})
			}
		})
		for _, flags := range append(wrong, []string{"--no-such-flag"}) {
			code, out := command(t, append(strings.Fields(own), flags...)...)
			if code != exitUsage || !strings.Contains(out, fmt.Sprintf("see '%s --help'", c.CommandPath())) {
				t.Errorf("%s %v: exit code %d:\n%s", own, flags, code, out)
			}
			if strings.Contains(out, "strconv") || strings.Contains(out, "invalid argument") || len(flags) > 1 && !strings.Contains(out, "; allowed: ") {
				t.Errorf("%s %v: the library's words:\n%s", own, flags, out)
			}
		}
		if !hasRow(own) {
			t.Errorf("%s has no row of its exit codes", own)
		}
	})
}

func hasRow(command string) bool {
	for line := range codeRows {
		if line == command || strings.HasPrefix(line, command+" ") {
			return true
		}
	}
	return false
}
