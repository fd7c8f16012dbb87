package diagnose

import "slices"

// code is what every finding of a code has in common. The lower its rank, the
// more likely it is the cause of the others.
type code struct {
	rank     int
	severity Severity
	title    string
}

// codes never change their meaning. The first two digits are the area:
// 10 control plane, 11 configuration and registry, 12 certificates, 13 Envoy,
// 14 the task, 15 traffic.
var codes = map[string]code{
	"PB1001": {0, Error, "the control plane does not answer"},
	"PB1002": {1, Error, "the control plane refuses the token"},
	"PB1003": {90, Error, "the control plane is not ready"},
	"PB1004": {10, Error, "the registry does not answer"},
	"PB1005": {12, Warning, "the registry limits the rate of calls"},
	"PB1006": {5, Error, "a permission is missing"},
	"PB1007": {60, Warning, "certificates would not outlast an outage of the CA"},
	"PB1008": {8, Error, "two clocks disagree"},
	"PB1009": {62, Warning, "endpoints are shown that the registry no longer lists"},
	"PB1010": {21, Error, "a service was deleted in the registry"},
	"PB1011": {11, Error, "AWS can't be reached"},
	"PB1012": {65, Error, "replicas disagree"},
	"PB1013": {66, Warning, "a replica is not heard"},
	"PB1101": {30, Error, "two services claim one alias"},
	"PB1102": {31, Error, "an alias can't be served in a task"},
	"PB1103": {32, Error, "a service of the registry can't be used"},
	"PB1104": {24, Error, "a port is not registered"},
	"PB1105": {33, Error, "a service has no usable settings"},
	"PB1106": {50, Warning, "instances are left out"},
	"PB1107": {23, Error, "a workload offers a name that is not its own"},
	"PB1108": {34, Error, "a service has no alias"},
	"PB1109": {11, Error, "a namespace is not certain"},
	"PB1110": {22, Error, "a service of the registry is in the way"},
	"PB1111": {51, Warning, "a service has instances of others"},
	"PB1112": {35, Error, "a load balancer does not fit the service behind it"},
	"PB1201": {14, Error, "the CA does not answer"},
	"PB1202": {15, Error, "the CA refuses"},
	"PB1203": {40, Error, "a service has no certificate"},
	"PB1204": {41, Error, "a certificate has expired"},
	"PB1205": {42, Warning, "a certificate is not renewed"},
	"PB1206": {63, Warning, "a certificate would not survive a restart"},
	"PB1207": {13, Error, "a service names an issuer that is not configured"},
	"PB1208": {26, Error, "callers do not trust a service's certificate"},
	"PB1209": {27, Error, "a certificate names another service"},
	"PB1210": {41, Error, "a workload has no certificate to call with"},
	"PB1301": {17, Error, "an Envoy is not connected"},
	"PB1302": {20, Error, "an Envoy rejects a resource"},
	"PB1303": {42, Error, "an Envoy waits for a resource"},
	"PB1304": {22, Error, "an Envoy can't open a listener"},
	"PB1305": {19, Error, "an Envoy is too old"},
	"PB1306": {43, Error, "an Envoy is not ready"},
	"PB1307": {72, Warning, "an Envoy is behind"},
	"PB1308": {61, Warning, "an Envoy has no agent"},
	"PB1309": {64, Warning, "an Envoy needs much memory"},
	"PB1401": {25, Error, "an application does not listen"},
	"PB1402": {28, Error, "names can't be written"},
	"PB1403": {73, Warning, "names are not written yet"},
	"PB1404": {18, Error, "an agent has fallen silent"},
	"PB1405": {16, Error, "two tasks use one name"},
	"PB1501": {80, Error, "a service has no endpoint"},
	"PB1502": {79, Error, "a service has no healthy endpoint"},
	"PB1503": {44, Error, "an endpoint can't be reached"},
	"PB1504": {45, Error, "TLS fails at an endpoint"},
	"PB1505": {74, Warning, "endpoints are ejected"},
	"PB1506": {75, Warning, "an application answers with errors"},
	"PB1507": {76, Warning, "requests time out"},
	"PB1508": {29, Error, "a connection is not encrypted"},
	"PB1509": {46, Warning, "a port was offered something other than TLS 1.3"},
	"PB1510": {49, Error, "an authorization refuses the call"},
	"PB1511": {47, Error, "not every connection to a service is encrypted"},
	"PB1512": {77, Warning, "calls are denied by an authorization"},
	"PB1514": {16, Error, "a target outside the mesh resolves into the mesh"},
	"PB1513": {50, Error, "a gRPC client without a proxy can't call a service"},
	"PB1601": {2, Error, "the client is not in the mesh"},
	"PB1602": {3, Error, "the mesh has no such name"},
	"PB1603": {4, Error, "the name is not called at this port"},
	"PB1604": {47, Error, "a sidecar lacks what the control plane wants it to have"},
	"PB1606": {5, Error, "a task does not declare what it calls"},
	"PB1607": {6, Error, "a workload may not call a target outside the mesh"},
	"PB1605": {48, Error, "a call fails although every hop looks right"},
}

// Codes lists every code, sorted.
func Codes() []string {
	out := make([]string, 0, len(codes))
	for c := range codes {
		out = append(out, c)
	}
	slices.Sort(out)
	return out
}

// Title is what a code means; empty if there is none such.
func Title(c string) string { return codes[c].title }
