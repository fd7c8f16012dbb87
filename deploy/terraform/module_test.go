package terraform

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// module is the configuration of this directory, evaluated with the variables
// of a test and with stand-ins for what AWS would answer.
type module struct {
	t         *testing.T
	provider  map[string]shape // by kind, type and block: "resource aws_lb", "resource aws_x.block"
	resources map[string]*hclsyntax.Block
	locals    map[string]hclsyntax.Expression
	blocks    []*hclsyntax.Block
	vars      cty.Value
	used      map[string]bool      // variables that something refers to
	values    map[string]cty.Value // of attributes, by "TYPE.NAME[KEY].ATTRIBUTE"
}

// shape is what a resource, or a block of one, takes and gives.
type shape struct{ takes, must, gives map[string]bool }

// readProvider is testdata/provider.txt.
func readProvider(t *testing.T) map[string]shape {
	t.Helper()
	text, err := os.ReadFile("testdata/provider.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]shape{}
	for line := range strings.Lines(string(text)) {
		what, rest, ok := strings.Cut(line, ": ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		s := shape{map[string]bool{}, map[string]bool{}, map[string]bool{}}
		takes, gives, _ := strings.Cut(rest, "|")
		for name := range strings.FieldsSeq(takes) {
			name, must := strings.CutSuffix(name, "!")
			s.takes[name] = true
			if must {
				s.must[name] = true
			}
		}
		for name := range strings.FieldsSeq(gives) {
			s.gives[name] = true
		}
		all[what] = s
	}
	return all
}

// load parses the directory.
func load(t *testing.T, vars map[string]cty.Value) *module {
	t.Helper()
	m := &module{
		t: t, provider: readProvider(t), resources: map[string]*hclsyntax.Block{}, locals: map[string]hclsyntax.Expression{},
		used: map[string]bool{}, values: map[string]cty.Value{},
	}
	files, err := filepath.Glob("*.tf")
	if err != nil || len(files) < 5 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, name := range files {
		f, diags := hclparse.NewParser().ParseHCLFile(name)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		m.blocks = append(m.blocks, f.Body.(*hclsyntax.Body).Blocks...)
	}
	all := map[string]cty.Value{}
	for _, b := range m.blocks {
		switch b.Type {
		case "resource":
			m.resources[strings.Join(b.Labels, ".")] = b
		case "data":
			m.resources["data."+strings.Join(b.Labels, ".")] = b
		case "locals":
			for name, a := range b.Body.Attributes {
				m.locals[name] = a.Expr
			}
		case "variable":
			all[b.Labels[0]] = m.variable(b, vars)
		}
	}
	m.vars = cty.ObjectVal(all)
	return m
}

// variable is its value, in its type.
func (m *module) variable(b *hclsyntax.Block, vars map[string]cty.Value) cty.Value {
	m.t.Helper()
	name, attrs := b.Labels[0], b.Body.Attributes
	if attrs["description"] == nil || attrs["type"] == nil {
		m.t.Fatalf("variable %s has no description, or no type", name)
	}
	v, given := vars[name]
	if d := attrs["default"]; !given && d != nil {
		v = m.eval(d.Expr, nil)
	} else if !given {
		m.t.Fatalf("variable %s has no default, and the test gives none", name)
	}
	kind, diags := typeexpr.TypeConstraint(attrs["type"].Expr)
	if diags.HasErrors() {
		m.t.Fatal(diags)
	}
	v, err := convert.Convert(v, kind)
	if err != nil {
		m.t.Fatalf("variable %s: %v", name, err)
	}
	return v
}

// eval is the value of an expression. extra are each, count and the like.
func (m *module) eval(e hclsyntax.Expression, extra map[string]cty.Value) cty.Value {
	m.t.Helper()
	roots := map[string]map[string]cty.Value{}
	put := func(root, name string, v cty.Value) {
		if roots[root] == nil {
			roots[root] = map[string]cty.Value{}
		}
		roots[root][name] = v
	}
	for _, v := range e.Variables() {
		root := v.RootName()
		if _, own := extra[root]; own {
			continue
		}
		names := []string{root}
		for _, step := range v[1:] {
			if a, ok := step.(hcl.TraverseAttr); ok {
				names = append(names, a.Name)
			}
		}
		switch root {
		case "var":
			m.used[names[1]] = true
		case "path":
			put("path", "module", cty.StringVal("."))
		case "local":
			local, declared := m.locals[names[1]]
			if !declared {
				m.t.Fatalf("%s: there is no local.%s", e.Range(), names[1])
			}
			put("local", names[1], m.eval(local, nil))
		default:
			n := 2
			if root == "data" {
				n = 3
			}
			put("", strings.Join(names[:min(n, len(names))], "."), m.standIn(e, strings.Join(names[:min(n, len(names))], ".")))
		}
	}
	ctx := &hcl.EvalContext{Variables: m.nest(roots), Functions: m.functions()}
	maps.Copy(ctx.Variables, extra)
	v, diags := e.Value(ctx)
	if diags.HasErrors() {
		m.t.Fatal(diags)
	}
	return v
}

// nest makes objects of what an expression refers to.
func (m *module) nest(roots map[string]map[string]cty.Value) map[string]cty.Value {
	types := map[string]map[string]cty.Value{}
	data := map[string]map[string]cty.Value{}
	for full, v := range roots[""] {
		into, rest := types, full
		if cut, is := strings.CutPrefix(full, "data."); is {
			into, rest = data, cut
		}
		kind, name, _ := strings.Cut(rest, ".")
		if into[kind] == nil {
			into[kind] = map[string]cty.Value{}
		}
		into[kind][name] = v
	}
	out := map[string]cty.Value{}
	if m.vars != cty.NilVal {
		out["var"] = m.vars
	}
	for _, root := range []string{"local", "path"} {
		if len(roots[root]) > 0 {
			out[root] = cty.ObjectVal(roots[root])
		}
	}
	for kind, names := range types {
		out[kind] = cty.ObjectVal(names)
	}
	if len(data) > 0 {
		all := map[string]cty.Value{}
		for kind, names := range data {
			all[kind] = cty.ObjectVal(names)
		}
		out["data"] = cty.ObjectVal(all)
	}
	return out
}

// instances are the keys of a resource, and what each and count are for it.
func (m *module) instances(full string) (keys []string, extra []map[string]cty.Value, many bool) {
	m.t.Helper()
	body := m.resources[full].Body
	switch {
	case body.Attributes["count"] != nil:
		n, _ := m.eval(body.Attributes["count"].Expr, nil).AsBigFloat().Int64()
		for i := range n {
			keys = append(keys, fmt.Sprint(i))
			extra = append(extra, map[string]cty.Value{"count": cty.ObjectVal(map[string]cty.Value{"index": cty.NumberIntVal(i)})})
		}
		return keys, extra, true
	case body.Attributes["for_each"] != nil:
		for _, e := range elements(m.eval(body.Attributes["for_each"].Expr, nil)) {
			keys = append(keys, e.key.AsString())
			extra = append(extra, map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"key": e.key, "value": e.value})})
		}
		return keys, extra, true
	}
	return []string{""}, []map[string]cty.Value{nil}, false
}

type element struct{ key, value cty.Value }

// elements are those of a collection; a set's keys are its values.
func elements(v cty.Value) (out []element) {
	for it := v.ElementIterator(); it.Next(); {
		key, value := it.Element()
		if v.Type().IsTupleType() || v.Type().IsListType() {
			key = value // as in a dynamic block over a list, where nobody asks for it
		}
		out = append(out, element{key, value})
	}
	return out
}

// standIn is a resource as others see it.
func (m *module) standIn(e hclsyntax.Expression, full string) cty.Value {
	m.t.Helper()
	b, declared := m.resources[full]
	if !declared {
		m.t.Fatalf("%s: there is no %s", e.Range(), full)
	}
	keys, _, many := m.instances(full)
	objects := map[string]cty.Value{}
	var list []cty.Value
	for _, key := range keys {
		attrs := map[string]cty.Value{}
		for name := range m.provider[b.Type+" "+b.Labels[0]].gives {
			attrs[name] = cty.StringVal(answer(full, key, name))
		}
		objects[key] = cty.ObjectVal(attrs)
		list = append(list, objects[key])
	}
	switch {
	case !many:
		return objects[""]
	case b.Body.Attributes["count"] != nil:
		return cty.TupleVal(list)
	}
	return cty.ObjectVal(objects)
}

const caARN = "arn:aws:acm-pca:eu-west-1:111122223333:certificate-authority/0f0f0f0f-1111-2222-3333-444444444444"

// answer is what AWS might say.
func answer(full, key, attribute string) string {
	name := full[strings.LastIndexByte(full, '.')+1:]
	switch {
	case strings.HasPrefix(full, "aws_acmpca_certificate_authority") && strings.HasSuffix(attribute, "arn"):
		return caARN
	case strings.HasPrefix(full, "aws_iam_role.") && attribute == "arn":
		return strings.TrimSuffix("arn:aws:iam::111122223333:role/"+name+"-"+key, "-")
	case full == "aws_kms_key.secrets" && attribute == "arn":
		return "arn:aws:kms:eu-west-1:111122223333:key/1"
	case attribute == "url":
		return "https://sqs.eu-west-1.amazonaws.com/111122223333/" + name + "-" + key
	case full == "data.aws_region.this" && attribute == "name":
		return "eu-west-1"
	case attribute == "account_id":
		return "111122223333"
	case attribute == "partition":
		return "aws"
	}
	return full + "[" + key + "]." + attribute
}

func (m *module) functions() map[string]function.Function {
	text := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			m.t.Fatal(err)
		}
		return string(b)
	}
	one := function.Parameter{Name: "path", Type: cty.String}
	return map[string]function.Function{
		"concat": stdlib.ConcatFunc, "distinct": stdlib.DistinctFunc, "element": stdlib.ElementFunc, "jsonencode": stdlib.JSONEncodeFunc, "length": stdlib.LengthFunc,
		"merge": stdlib.MergeFunc, "range": stdlib.RangeFunc, "split": stdlib.SplitFunc, "values": stdlib.ValuesFunc,
		"toset": stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
		"file": function.New(&function.Spec{Params: []function.Parameter{one}, Type: function.StaticReturnType(cty.String),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				return cty.StringVal(text(args[0].AsString())), nil
			}}),
		"templatefile": function.New(&function.Spec{
			Params: []function.Parameter{one, {Name: "vars", Type: cty.DynamicPseudoType}}, Type: function.StaticReturnType(cty.String),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				e, diags := hclsyntax.ParseTemplate([]byte(text(args[0].AsString())), args[0].AsString(), hcl.InitialPos)
				if diags.HasErrors() {
					return cty.NilVal, diags
				}
				given := args[1].AsValueMap()
				v, diags := e.Value(&hcl.EvalContext{Variables: given})
				if diags.HasErrors() {
					return cty.NilVal, diags
				}
				for _, u := range e.Variables() {
					delete(given, u.RootName())
				}
				if len(given) > 0 {
					return cty.NilVal, fmt.Errorf("%s does not use %v", args[0].AsString(), slices.Sorted(maps.Keys(given)))
				}
				return v, nil
			}}),
	}
}
