package traffic

import (
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"patchbay/mesh/policy"
	"patchbay/xds/translate/extension"
)

const faultFilter = "envoy.filters.http.fault"

// FaultFilter stands in every egress listener and does nothing until a route
// has [Fault]: so faults come and go by RDS, and no connection is touched.
func FaultFilter() *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{
		Name: faultFilter, Disabled: true,
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: extension.Pack(&faultv3.HTTPFault{})},
	}
}

// Fault is what a virtual host or a route says to [FaultFilter]; nil for nil.
func Fault(f *policy.Fault) map[string]*anypb.Any {
	if f == nil || f.Abort == nil && f.Delay == nil {
		return nil
	}
	m := &faultv3.HTTPFault{}
	if a := f.Abort; a != nil {
		m.Abort = &faultv3.FaultAbort{ErrorType: &faultv3.FaultAbort_HttpStatus{HttpStatus: a.Status}, Percentage: percent(a.Percent)}
	}
	if d := f.Delay; d != nil {
		m.Delay = &commonv3.FaultDelay{
			FaultDelaySecifier: &commonv3.FaultDelay_FixedDelay{FixedDelay: duration(d.Duration)}, Percentage: percent(d.Percent),
		}
	}
	return map[string]*anypb.Any{faultFilter: extension.Pack(m)}
}

func percent(n uint32) *typev3.FractionalPercent { return &typev3.FractionalPercent{Numerator: n} }
