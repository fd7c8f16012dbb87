package claim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"patchbay/mesh/policy"
	"patchbay/xds/bootstrap"
)

func TestAPolicyThatNoAgentSendsIsRefused(t *testing.T) {
	meta := bootstrap.NodeMeta{Policies: map[string]*policy.Policy{"api": {Preset: "istio", RateLimit: &policy.RateLimit{Requests: 1, Per: policy.Duration(time.Second)}}}}
	wrong := policyProblems(meta)
	if len(wrong) != 2 || !strings.HasPrefix(wrong[0], "api.preset:") || !strings.HasPrefix(wrong[1], "api.rateLimit:") {
		t.Errorf("%q", wrong)
	}
	many := bootstrap.NodeMeta{Policies: map[string]*policy.Policy{}}
	for i := range maxPolicies + 1 {
		many.Policies[fmt.Sprint(i)] = nil
	}
	if len(policyProblems(many)) != 1 {
		t.Error("any number of policies is accepted")
	}
}
