package patchbay

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// notLogging are the parts whose logs are nobody's contract: stand-ins, and what
// is run by hand.
var notLogging = []string{"bench/", "cmd/bench/", "cmd/awsfake/", "cmd/demoapp/", "cmd/devca/", "demo/", "internal/"}

// logged is what the source says to slog.
type logged struct {
	t    *testing.T
	set  *token.FileSet
	keys map[string][]string // where each is used
}

// TestLogKeys: docs/reference/logs.md lists every key of every log message, and
// no other.
func TestLogKeys(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "-co", "--exclude-standard", "*.go").Output()
	if err != nil {
		t.Fatal(err)
	}
	l := &logged{t: t, set: token.NewFileSet(), keys: map[string][]string{}}
	for file := range strings.FieldsSeq(string(out)) {
		if strings.HasSuffix(file, "_test.go") || slices.ContainsFunc(notLogging, func(p string) bool { return strings.HasPrefix(file, p) }) {
			continue
		}
		parsed, err := parser.ParseFile(l.set, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, l.look)
	}
	page, err := os.ReadFile("docs/reference/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| [^|]+ \\|$").FindAllStringSubmatch(string(page), -1) {
		if listed[m[1]] {
			t.Errorf("%s is listed twice", m[1])
		}
		listed[m[1]] = true
		if m[1] != "time" && m[1] != "level" && m[1] != "msg" && l.keys[m[1]] == nil {
			t.Errorf("the page lists %s; no message has it", m[1])
		}
	}
	for key, where := range l.keys {
		if !listed[key] {
			t.Errorf("docs/reference/logs.md lacks %s, of %v", key, where)
		}
	}
	if len(l.keys) < 50 {
		t.Errorf("only %d keys were found", len(l.keys))
	}
}

// first is where the keys of a call begin: after a message, and a context.
var first = map[string]int{
	"Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "DebugContext": 2, "InfoContext": 2, "WarnContext": 2, "ErrorContext": 2, "With": 0, "LogAttrs": 3,
}

// look takes in a call of a logger, which is always called log or Log, or of a
// constructor of an attribute.
func (l *logged) look(n ast.Node) bool {
	call, is := n.(*ast.CallExpr)
	if !is {
		return true
	}
	f, is := call.Fun.(*ast.SelectorExpr)
	if !is {
		return true
	}
	receiver := ""
	switch x := f.X.(type) {
	case *ast.Ident:
		receiver = x.Name
	case *ast.SelectorExpr:
		receiver = x.Sel.Name
	}
	at, logs := first[f.Sel.Name]
	switch {
	case receiver == "slog" && len(call.Args) == 2 && !strings.HasPrefix(f.Sel.Name, "New"):
		l.key(call.Args[0])
	case !logs:
	case receiver == "log" || receiver == "Log":
		l.call(call, f.Sel.Name, at)
	case strings.HasPrefix(f.Sel.Name, "Warn") || strings.HasPrefix(f.Sel.Name, "Info") || strings.HasPrefix(f.Sel.Name, "Debug"):
		l.t.Errorf("%s: call the logger log", l.set.Position(call.Pos()))
	}
	return true
}

func (l *logged) call(call *ast.CallExpr, name string, at int) {
	if call.Ellipsis != token.NoPos {
		if name != "LogAttrs" { // whose attributes are found where they are made
			l.t.Errorf("%s: write the keys where the message is", l.set.Position(call.Pos()))
		}
		return
	}
	for ; at < len(call.Args); at += 2 {
		l.key(call.Args[at])
	}
}

func (l *logged) key(x ast.Expr) {
	where := l.set.Position(x.Pos()).String()
	literal, is := x.(*ast.BasicLit)
	if !is || literal.Kind != token.STRING {
		l.t.Errorf("%s: a key is not a literal", where)
		return
	}
	key, err := strconv.Unquote(literal.Value)
	if err != nil || !regexp.MustCompile(`^[a-z][a-z_]*$`).MatchString(key) {
		l.t.Errorf("%s: %q is not in snake case", where, key)
	}
	l.keys[key] = append(l.keys[key], where)
}
