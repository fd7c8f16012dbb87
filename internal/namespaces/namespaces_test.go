package namespaces

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sd "github.com/aws/aws-sdk-go-v2/service/servicediscovery"
	"github.com/aws/aws-sdk-go-v2/service/servicediscovery/types"
)

// fixed answers with these namespaces, of which those of an owner other than
// mine are shared.
type fixed []types.NamespaceSummary

const mine = "111111111111"

func (f fixed) ListNamespaces(_ context.Context, in *sd.ListNamespacesInput, _ ...func(*sd.Options)) (*sd.ListNamespacesOutput, error) {
	out := &sd.ListNamespacesOutput{}
	for _, n := range f {
		if len(in.Filters) == 0 || aws.ToString(n.ResourceOwner) != mine {
			out.Namespaces = append(out.Namespaces, n)
		}
	}
	return out, nil
}

func summary(id, name, httpName, owner string) types.NamespaceSummary {
	n := types.NamespaceSummary{Id: &id, Arn: aws.String("arn:" + id), Name: &name}
	if httpName != "" {
		n.Properties = &types.NamespaceProperties{HttpProperties: &types.HttpProperties{HttpName: &httpName}}
	}
	if owner != "" {
		n.ResourceOwner = &owner
	}
	return n
}

func TestWhichIsMeant(t *testing.T) {
	all := fixed{
		summary("ns-1", "Prod", "Prod", mine),
		summary("ns-2", "again", "again-2", mine),
		summary("ns-3", "twice", "twice", mine),
		summary("ns-4", "twice", "TWICE", "222222222222"),
		summary("ns-5", "dns", "", ""), // as some emulators have it
		summary("ns-6", "shared", "shared", "222222222222"),
	}
	for _, k := range []struct {
		want  Want
		found Namespace
		ref   string
	}{
		{Want{Local: "prod"}, Namespace{ID: "ns-1", ARN: "arn:ns-1", HTTPName: "Prod"}, "ns-1"},
		{Want{Local: "again-2"}, Namespace{ID: "ns-2", ARN: "arn:ns-2", HTTPName: "again-2"}, "ns-2"},
		{Want{Local: "x", Registry: "arn:ns-3"}, Namespace{ID: "ns-3", ARN: "arn:ns-3", HTTPName: "twice"}, "ns-3"},
		{Want{Local: "x", Registry: "ns-4"}, Namespace{ID: "ns-4", ARN: "arn:ns-4", HTTPName: "TWICE", Owner: "222222222222"}, "arn:ns-4"},
		{Want{Local: "twice", Registry: "TWICE"}, Namespace{ID: "ns-4", ARN: "arn:ns-4", HTTPName: "TWICE", Owner: "222222222222"}, "arn:ns-4"},
		{Want{Local: "twice", Known: "ns-3"}, Namespace{ID: "ns-3", ARN: "arn:ns-3", HTTPName: "twice"}, "ns-3"},
		{Want{Local: "dns"}, Namespace{ID: "ns-5", ARN: "arn:ns-5", HTTPName: "dns"}, "ns-5"},
		{Want{Local: "shared"}, Namespace{ID: "ns-6", ARN: "arn:ns-6", HTTPName: "shared", Owner: "222222222222"}, "arn:ns-6"},
	} {
		got, err := Find(t.Context(), all, k.want)
		if err != nil || got != k.found || got.Ref() != k.ref || (got.Account() != nil) != (k.found.Owner != "") {
			t.Errorf("%+v: %+v, %v", k.want, got, err)
		}
	}
	_, err := Find(t.Context(), all, Want{Local: "twice"})
	if !errors.Is(err, ErrSeveral) || !strings.Contains(err.Error(), "arn:ns-3") || !strings.Contains(err.Error(), "arn:ns-4") || !strings.Contains(err.Error(), "of account 222222222222") {
		t.Errorf("two of a name: %v", err)
	}
	_, err = Find(t.Context(), all, Want{Local: "again"})
	if !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), `HttpName "again-2"`) {
		t.Errorf("a Name that is not the HttpName: %v", err)
	}
	if _, err := Find(t.Context(), all, Want{Local: "absent", Known: "ns-1"}); !errors.Is(err, ErrNone) || errors.Is(err, ErrSeveral) {
		t.Errorf("none: %v", err)
	}
}
