package policy

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func read(t *testing.T, text string) *Policy {
	t.Helper()
	p := &Policy{}
	if err := json.Unmarshal([]byte(text), p); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

func TestEveryMistakeIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		`{"preset":"istio"}`:                                                                `preset: "istio"; allowed: appmesh, ecs, envoy`,
		`{"timeout":{"perRequest":"25h"}}`:                                                  "timeout.perRequest: 25h0m0s; allowed: 0s to 24h0m0s",
		`{"timeout":{"idle":"-1s"}}`:                                                        "timeout.idle: -1s; allowed",
		`{"retries":{"max":11}}`:                                                            "retries.max: 11; allowed: 0 to 10",
		`{"retries":{"on":["503","399"]}}`:                                                  `retries.on[1]: "399"; allowed: a status of 400 to 599, 5xx`,
		`{"retries":{"on":["oops"]}}`:                                                       `retries.on[0]: "oops"; allowed`,
		`{"retries":{"perTry":"0s"}}`:                                                       "retries.perTry: 0s; allowed: 1ms",
		`{"retries":{"ifMethodIs":["get"]}}`:                                                `retries.ifMethodIs[0]: "get"; allowed: a method in capitals`,
		`{"retries":{"budgetPercent":101}}`:                                                 "retries.budgetPercent: 101; allowed: 0 to 100",
		`{"outlierDetection":{"interval":"1ms"}}`:                                           "outlierDetection.interval: 1ms; allowed: 1s",
		`{"outlierDetection":{"baseEjection":"0s"}}`:                                        "outlierDetection.baseEjection: 0s; allowed",
		`{"outlierDetection":{"maxEjection":"0s"}}`:                                         "outlierDetection.maxEjection: 0s; allowed",
		`{"outlierDetection":{"maxPercent":101}}`:                                           "outlierDetection.maxPercent: 101; allowed",
		`{"loadBalancing":{"algorithm":"best"}}`:                                            `loadBalancing.algorithm: "best"; allowed: round_robin, least_request`,
		`{"loadBalancing":{"algorithm":"ring_hash"}}`:                                       "loadBalancing.hashOn: is missing",
		`{"loadBalancing":{"algorithm":"ring_hash","hashOn":"header:"}}`:                    `loadBalancing.hashOn: "header:"; allowed`,
		`{"loadBalancing":{"algorithm":"ring_hash","hashOn":"query:x"}}`:                    `loadBalancing.hashOn: "query:x"; allowed`,
		`{"loadBalancing":{"hashOn":"header:x"}}`:                                           "loadBalancing.hashOn: has no effect with the default algorithm",
		`{"loadBalancing":{"algorithm":"random","slowStart":"30s"}}`:                        "loadBalancing.slowStart: has no effect with random",
		`{"loadBalancing":{"panicThreshold":200}}`:                                          "loadBalancing.panicThreshold: 200; allowed",
		`{"loadBalancing":{"algorithm":"ring_hash","hashOn":"source-ip","zoneAware":true}}`: "loadBalancing.zoneAware: has no effect with ring_hash",
		`{"healthCheck":{"path":"healthz"}}`:                                                `healthCheck.path: "healthz"; allowed: a path that begins with /`,
		`{"healthCheck":{"protocol":"http"}}`:                                               "healthCheck.path: \"\"; allowed",
		`{"healthCheck":{"protocol":"grpc","path":"/x"}}`:                                   "healthCheck.path: has no meaning for grpc",
		`{"healthCheck":{"protocol":"udp"}}`:                                                `healthCheck.protocol: "udp"; allowed: http, grpc, tcp`,
		`{"healthCheck":{"path":"/","interval":"10ms"}}`:                                    "healthCheck.interval: 10ms; allowed: 1s",
		`{"healthCheck":{"path":"/","timeout":"0s"}}`:                                       "healthCheck.timeout: 0s; allowed",
		`{"healthCheck":{"path":"/","healthyThreshold":0}}`:                                 "healthCheck.healthyThreshold: 0; allowed: 1 or more",
		`{"healthCheck":{"path":"/","unhealthyThreshold":0}}`:                               "healthCheck.unhealthyThreshold: 0; allowed: 1 or more",
		`{"rateLimit":{"per":"1s"}}`:                                                        "rateLimit.requests: is 0 or missing",
		`{"rateLimit":{"requests":5,"burst":2,"per":"1s"}}`:                                 "rateLimit.burst: 2 is less than requests; allowed: 5 or more",
		`{"rateLimit":{"requests":5,"per":"1ms"}}`:                                          "rateLimit.per: 1ms; allowed: 50ms",
		`{"fault":{"abort":{"status":99,"percent":1}}}`:                                     "fault.abort.status: 99; allowed: 200 to 599",
		`{"fault":{"abort":{"status":503,"percent":101}}}`:                                  "fault.abort.percent: 101; allowed",
		`{"fault":{"delay":{"duration":"0s","percent":1}}}`:                                 "fault.delay.duration: 0s; allowed",
		`{"fault":{"delay":{"duration":"1s","percent":101}}}`:                               "fault.delay.percent: 101; allowed",
		`{"testTraffic":{"header":"a b"}}`:                                                  `testTraffic.header: "a b"; allowed`,
		`{"testTraffic":{"header":"a","value":"ü"}}`:                                        `testTraffic.value: "ü"; allowed`,
		`{"routes":[{"match":{"path":"/a","prefix":"/b"}}]}`:                                "routes[0].match: has path and prefix; allowed: one of them",
		`{"routes":[{"match":{"path":"/a?b"}}]}`:                                            `routes[0].match.path: "/a?b"; allowed`,
		`{"routes":[{"match":{"prefix":"a"}}]}`:                                             `routes[0].match.prefix: "a"; allowed`,
		`{"routes":[{"match":{"methods":["G T"]}}]}`:                                        `routes[0].match.methods[0]: "G T"; allowed`,
		`{"routes":[{"match":{"headers":{"a b":"c"}}}]}`:                                    `routes[0].match.headers: "a b": "c"; allowed`,
		`{"routes":[{"match":{"headers":{"a":"ü"}}}]}`:                                      `routes[0].match.headers: "a": "ü"; allowed`,
		`{"routes":[{"match":{},"to":[{"service":"a","weight":0}]}]}`:                       "routes[0].to: the weights add up to 0; allowed",
		`{"routes":[{"match":{},"mirror":{"percent":5}}]}`:                                  "routes[0].mirror.service: is missing",
		`{"routes":[{"match":{},"mirror":{"service":"a","percent":500}}]}`:                  "routes[0].mirror.percent: 500; allowed",
		`{"routes":[{"match":{},"rewrite":{"prefix":"x"}}]}`:                                `routes[0].rewrite.prefix: "x"; allowed`,
		`{"routes":[{"match":{},"rewrite":{"host":"a b"}}]}`:                                `routes[0].rewrite.host: "a b"; allowed`,
		`{"routes":[{"match":{},"timeout":{"idle":"-1s"}}]}`:                                "routes[0].timeout.idle: -1s; allowed",
		`{"mutualTls":{}}`:                                                                  "mutualTls.mode: is missing; allowed: off, permissive, required",
		`{"mutualTls":{"mode":"strict"}}`:                                                   `mutualTls.mode: "strict"; allowed: off, permissive, required`,
		`{"mutualTls":{"mode":"permissive","exempt":["web"]}}`:                              "mutualTls.exempt: has no effect with permissive; allowed",
		`{"authorization":{"rules":[{"from":["a"]}]}}`:                                      "authorization: goes by the caller's certificate, and none is asked for; allowed",
		asked(`{}`):                                             "authorization.rules: is missing; allowed",
		asked(`{"rules":[{}]}`):                                 "authorization.rules[0].from: is missing; allowed",
		asked(`{"rules":[{"from":["a/b/c"]}]}`):                 `authorization.rules[0].from[0]: "a/b/c"; allowed`,
		asked(`{"rules":[{"from":["*/a"]}]}`):                   `authorization.rules[0].from[0]: "*/a"; allowed`,
		asked(`{"rules":[{"from":["a/.."]}]}`):                  `authorization.rules[0].from[0]: "a/.."; allowed`,
		asked(`{"rules":[{"from":["*"],"methods":["get"]}]}`):   `authorization.rules[0].methods[0]: "get"; allowed`,
		asked(`{"rules":[{"from":["*"],"paths":["a"]}]}`):       `authorization.rules[0].paths[0]: "a"; allowed`,
		asked(`{"rules":[{"from":["*"],"prefixes":["/a?b"]}]}`): `authorization.rules[0].prefixes[0]: "/a?b"; allowed`,
		`{"routes":[{"match":{},"retries":{"max":99}}]}`:        "routes[0].retries.max: 99; allowed",
	} {
		var got []string
		for _, p := range read(t, text).Problems() {
			got = append(got, p.Path+": "+p.Text)
		}
		if len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%s\n got %q\nwant %q", text, got, want)
		}
		if _, err := Decode([]byte(text)); err == nil {
			t.Errorf("%s is decoded", text)
		}
	}
}

// TestWhatIsMetByNoRequestIsNamed: what is stored is read all the same.
func TestWhatIsMetByNoRequestIsNamed(t *testing.T) {
	for path, want := range map[string]string{
		"/":             "",
		"/a;b=c/d":      "",
		"/...;/a":       "",
		"/a%20b%C3%BC%": "",
		"/%41":          `this one is read as "/A"; allowed: plain ones, such as "/A"`,
		"/a/../b":       `this one is read as "/b"; allowed: plain ones, such as "/b"`,
		"/a/.":          `this one is read as "/a/"; allowed: plain ones, such as "/a/"`,
		"/a/.;x/b":      `this one is read as "/a/b"; allowed: plain ones, such as "/a/b"`,
		"/a/..;/b":      `this one is read as "/b"; allowed: plain ones, such as "/b"`,
		"//a//b":        `this one is read as "/a/b"; allowed: plain ones, such as "/a/b"`,
		`/a\\b`:         `this one is read as "/a/b"; allowed: plain ones, such as "/a/b"`,
		"/a{b}":         `this one is read as "/a%7Bb%7D"; allowed: plain ones, such as "/a%7Bb%7D"`,
		"/a/%2e%2e;/b":  `this one is read as "/a/..;/b"; allowed: without the segments . and ..`,
		"/a%2Fb":        "one with an escaped slash, backslash or NUL is answered 400; allowed: without %2F, %5C and %00",
		"/a%5cb":        "one with an escaped slash, backslash or NUL is answered 400",
		"/a%00":         "one with an escaped slash, backslash or NUL is answered 400",
		"a?":            "", // no path, which Problems says
	} {
		for _, list := range []string{"paths", "prefixes"} {
			p := read(t, asked(fmt.Sprintf(`{"rules":[{"from":["a"]},{"from":["*"],%q:["/b",%q]}]}`, list, path)))
			got := fmt.Sprint(p.Unmet())
			if ok := want == "" && p.Unmet() == nil || want != "" && strings.HasPrefix(got, "[{authorization.rules[1]."+list+"[1] "+strconv.Quote(path)+" is met by no request: ") && strings.Contains(got, want); !ok {
				t.Errorf("%s %s: %s, want %q", list, path, got, want)
			}
			if _, err := Decode(p.Encode()); (err == nil) != (path[0] == '/') {
				t.Errorf("%s %s is read again: %v", list, path, err)
			}
		}
	}
	if (*Policy)(nil).Unmet() != nil || (&Policy{}).Unmet() != nil {
		t.Error("nothing is unmet")
	}
}

// asked is a policy with mutual TLS and an authorization.
func asked(authorization string) string {
	return `{"mutualTls":{"mode":"required"},"authorization":` + authorization + `}`
}

func TestWhoIsAsked(t *testing.T) {
	var none *Policy
	for text, want := range map[string][3]bool{
		`{}`: {}, `{"mutualTls":{"mode":"off"}}`: {}, `{"mutualTls":{"mode":"permissive"}}`: {true, false, false},
		`{"mutualTls":{"mode":"required"}}`: {true, true, true}, `{"mutualTls":{"mode":"required","exempt":["web"]}}`: {true, true, false},
	} {
		p := read(t, text)
		if got := [3]bool{p.Asks(), p.Requires(), p.RequiresAt("web")}; got != want || p.Quiet().Asks() {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
		if refused := len(p.WithoutTLS()) > 0; refused != want[0] {
			t.Errorf("%s without TLS: refused is %v", text, refused)
		}
	}
	if none.Asks() || none.Requires() || none.RequiresAt("web") || none.Quiet() != nil || none.WithoutTLS() != nil {
		t.Error("no policy asks for something")
	}
}

func TestWhatCanHaveNoEffectIsRefused(t *testing.T) {
	for _, c := range []struct {
		text string
		side Side
		l7   bool
		want string
	}{
		{`{"timeout":{"perRequest":"1s"}}`, OfService, true, "timeout"},
		{`{"timeout":{"perRequest":"1s"}}`, OfCaller, true, ""},
		{`{"rateLimit":{"requests":1,"per":"1s"}}`, OfCaller, true, "rateLimit"},
		{`{"rateLimit":{"requests":1,"per":"1s"}}`, OfService, false, ""},
		{`{"retries":{"max":1}}`, OfService, false, ""},
		{`{"retries":{"on":["503"]}}`, OfService, false, "retries"},
		{`{"outlierDetection":{"serverErrors":5}}`, OfService, false, "outlierDetection.serverErrors"},
		{`{"loadBalancing":{"algorithm":"ring_hash","hashOn":"source-ip"}}`, OfService, false, ""},
		{`{"loadBalancing":{"algorithm":"ring_hash","hashOn":"header:a"}}`, OfService, false, "loadBalancing"},
		{`{"healthCheck":{"path":"/"}}`, OfService, false, "healthCheck"},
		{`{"healthCheck":{}}`, OfService, false, ""},
		{`{"fault":{"abort":{"status":503,"percent":1}}}`, OfService, false, "fault"},
		{`{"routes":[{"match":{}}]}`, OfService, false, "routes"},
		{`{"testTraffic":{"header":"a"}}`, OfService, false, "testTraffic"},
		{`{"testTraffic":{"header":"a"}}`, OfCaller, true, "testTraffic"},
		{`{"mutualTls":{"mode":"off"}}`, OfCaller, true, "mutualTls"},
		{asked(`{"rules":[]}`), OfCaller, true, "mutualTlsauthorization"},
		{asked(`{"rules":[{"from":["a"]}]}`), OfService, false, ""},
		{asked(`{"rules":[{"from":["*"]}]}`), OfService, false, "authorization.rules[0].from"},
		{`{"mutualTls":{"mode":"permissive"},"authorization":{"rules":[]}}`, OfService, false, "authorization"},
		{`{"mutualTls":{"mode":"required","exempt":["a"]},"authorization":{"rules":[]}}`, OfService, false, "authorization"},
		{asked(`{"rules":[{"from":["a"],"methods":["GET"]}]}`), OfService, false, "authorization.rules[0]"},
	} {
		got := ""
		for _, p := range read(t, c.text).Misplaced(c.side, c.l7) {
			got += p.Path
		}
		if got != c.want {
			t.Errorf("%s of side %d, l7 %v: %q, want %q", c.text, c.side, c.l7, got, c.want)
		}
	}
}

func TestPresetsAreCompleteAndValid(t *testing.T) {
	for _, name := range Presets() {
		p := Effective(&Policy{Preset: name}, nil)
		if got := p.Problems(); got != nil {
			t.Errorf("%s: %v", name, got)
		}
		if p.Preset != name || p.Retries.Max == nil || p.LoadBalancing.Algorithm == "" || p.LoadBalancing.PanicThreshold == nil {
			t.Errorf("%s lacks something: %s", name, p.Encode())
		}
		for _, part := range []any{*p.OutlierDetection, *p.ConnectionLimits} {
			v := reflect.ValueOf(part)
			for i := range v.NumField() {
				if f := v.Type().Field(i).Name; v.Field(i).IsNil() && f != "ServerErrors" {
					t.Errorf("%s: %s.%s is missing", name, v.Type().Name(), f)
				}
			}
		}
	}
}

func TestTheCallersWordIsTheLast(t *testing.T) {
	service := read(t, `{"preset":"envoy","retries":{"max":3,"on":["503"]},"loadBalancing":{"algorithm":"least_request"},"healthCheck":{"path":"/a"}}`)
	caller := read(t, `{"retries":{"max":0},"timeout":{"perRequest":"1s"},"healthCheck":{"protocol":"tcp"}}`)
	before := string(service.Encode())
	p := Effective(service, caller)
	switch {
	case p.Preset != "envoy" || *p.ConnectionLimits.MaxRequests != 1024:
		t.Errorf("the service's preset does not hold: %s", p.Encode())
	case *p.Retries.Max != 0 || len(p.Retries.On) != 1:
		t.Errorf("members of retries are not joined: %s", p.Encode())
	case p.LoadBalancing.Algorithm != "least_request" || *p.LoadBalancing.PanicThreshold != 50:
		t.Errorf("load balancing: %s", p.Encode())
	case p.HealthCheck.Path != "" || p.HealthCheck.Kind() != CheckTCP:
		t.Errorf("health checks are mixed: %s", p.Encode())
	case time.Duration(*p.Timeout.PerRequest) != time.Second:
		t.Errorf("timeout: %s", p.Encode())
	case string(service.Encode()) != before:
		t.Error("the service's own policy was changed")
	}
	if q := Effective(service, read(t, `{"preset":"appmesh"}`)); q.Preset != "appmesh" || *q.Retries.Max != 3 {
		t.Errorf("the caller's preset: %s", q.Encode())
	}
}

// TestPage holds docs/reference/policies.md against the members, both ways.
func TestPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/reference/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if cell, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(cell, "`")
			rows[name] = true
		}
	}
	members(reflect.TypeFor[Policy](), "", func(path string) {
		if !rows[path] {
			t.Errorf("the page lacks a row `%s`", path)
		}
		delete(rows, path)
	})
	for row := range rows {
		t.Errorf("the page has a row `%s`, which is no member", row)
	}
	for _, words := range [][]string{Presets(), Algorithms, RetryConditions} {
		for _, w := range words {
			if !strings.Contains(string(b), w) {
				t.Errorf("the page lacks the word %s", w)
			}
		}
	}
}

// members calls f with the path of every member that holds a value.
func members(t reflect.Type, at string, f func(string)) {
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		path, ft := at+name, field.Type
		for ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		switch {
		case ft.Kind() == reflect.Struct:
			members(ft, path+".", f)
		case ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct:
			members(ft.Elem(), path+"[].", f)
		default:
			f(path)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"retries":{"max":2,"on":["503"]},"routes":[{"match":{"prefix":"/a"},"to":[{"service":"b","weight":1}]}]}`)
	f.Add(`{"rateLimit":{"requests":1,"per":"50ms"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Decode([]byte(text))
		if err != nil || p == nil {
			return
		}
		again, err := Decode(p.Encode())
		if err != nil || !again.Equal(p) {
			t.Fatalf("%s is %s when it is read again (%v)", p.Encode(), again.Encode(), err)
		}
		Effective(p, p)
		p.Unmet()
		p.Misplaced(OfCaller, false)
		p.Targets()
	})
}

func TestWhichRuleLetsACallIn(t *testing.T) {
	a := read(t, asked(`{"rules":[{"from":["web"],"methods":["GET"],"prefixes":["/v1","/f/"]},{"from":["ops/*","b/batch"]},{"from":["*"],"paths":["/healthz"]},{"from":["*/*"],"paths":["/members"]}]}`)).Authorization
	for _, c := range []struct {
		call Call
		rule int
		why  string
	}{
		{Call{"prod", "web", "GET", "/v1"}, 0, ""}, {Call{"prod", "web", "GET", "/v1/x"}, 0, ""}, {Call{"prod", "web", "GET", "/f/x"}, 0, ""},
		{Call{"prod", "web", "", ""}, 0, ""}, {Call{"ops", "any", "DELETE", "/"}, 1, ""}, {Call{"b", "batch", "PUT", "/"}, 1, ""}, {Call{"x", "y", "GET", "/healthz"}, 2, ""}, {Call{"x", "y", "GET", "/members"}, 3, ""},
		{Call{"prod", "web", "GET", "/v10"}, -1, "rules[0] is for /v1/…, /f/…; rules[1] is for ops/*, b/batch; rules[2] is for /healthz"},
		{Call{"prod", "web", "GET", "/f"}, -1, "rules[0] is for /v1/…, /f/…"}, {Call{"prod", "web", "PUT", "/v1"}, -1, "rules[0] is for GET"},
		{Call{"", "", "GET", "/members"}, -1, "rules[0] is for web"}, {Call{"", "", "GET", "/healthz?deep"}, 2, ""}, {Call{"prod", "web", "GET", "//v1/./x?/.."}, 0, ""},
		{Call{"prod", "web", "GET", "/v1/%2e%2e/admin"}, -1, "rules[0] is for /v1/…"}, {Call{"ops", "any", "GET", "/v1%2Fx"}, -1, "some rule goes by paths, and then one with an escaped slash is refused"},
		{Call{"other", "web", "GET", "/v1"}, -1, "rules[0] is for web"}, {Call{"b", "web", "GET", "/x"}, -1, "rules[0] is for web"},
	} {
		rule, why := a.Judge("prod", c.call)
		if rule != c.rule || !strings.HasPrefix(strings.Join(why, "; "), c.why) {
			t.Errorf("%v: %d, %q; want %d, %q", c.call, rule, why, c.rule, c.why)
		}
	}
	if rule, why := (&Authorization{Rules: []Rule{}}).Judge("prod", Call{"prod", "web", "", ""}); rule != -1 || len(why) != 1 {
		t.Errorf("without rules: %d, %q", rule, why)
	}
}

// TestWords: of each member of what holds, whose word it is; and what is
// effective is all that is listed.
func TestWords(t *testing.T) {
	service := read(t, `{"preset": "appmesh", "retries": {"max": 3, "on": ["503", "unavailable"]}, "rateLimit": {"requests": 5, "per": "1s"}, "healthCheck": {"path": "/h", "interval": "5s"},
		"routes": [{"match": {"prefix": "/a"}}]}`)
	caller := read(t, `{"retries": {"max": 0}, "timeout": {"perRequest": "2s"}, "healthCheck": {"protocol": "tcp"}, "loadBalancing": {"zoneAware": false}}`)
	got := map[string]string{}
	for _, w := range Words(service, caller, true, false) {
		got[w.Member] = fmt.Sprintf("%v %s", w.Value, w.From)
	}
	for member, want := range map[string]string{
		"retries.max": "0 caller", "retries.on": "[503] service", "timeout.perRequest": "2s caller", "healthCheck.protocol": "tcp caller",
		"loadBalancing.algorithm": "round_robin preset appmesh", "loadBalancing.zoneAware": "false caller", "outlierDetection.failures": "0 preset appmesh",
		"rateLimit.requests": "5 service", "routes[0]": "{{ /a [] map[]} [] <nil> <nil> <nil> <nil>} service",
	} {
		if got[member] != want {
			t.Errorf("%s: %q, want %q", member, got[member], want)
		}
	}
	if _, is := got["healthCheck.interval"]; is {
		t.Error("a health check is taken whole: the service's interval is not part of the caller's")
	}
	for _, w := range Words(nil, nil, false, false) {
		if w.Member == "retries.on" || w.From != "preset ecs" {
			t.Errorf("of connections: %+v", w)
		}
	}
}

// What no request can meet is said to whoever writes it; a policy that is
// stored so is read all the same.
func TestVain(t *testing.T) {
	for text, want := range map[string]string{
		asked(`{"rules":[{"from":["*"],"paths":["/a/*"]}]}`):                                                                                      `authorization.rules[0].paths[0]: "/a/*" would be compared as it stands`,
		asked(`{"rules":[{"from":["*"],"prefixes":["/","/a/*"]}]}`):                                                                               `authorization.rules[0].prefixes[1]: "/a/*" would be compared as it stands`,
		asked(`{"rules":[{"from":["*"],"methods":["GET","*"]}]}`):                                                                                 `authorization.rules[0].methods[1]: "*" would be compared as it stands`,
		`{"healthCheck":{"path":"/healthz"},` + asked(`{"rules":[{"from":["a"]},{"from":["b/c","a"],"methods":["GET"],"prefixes":["/v1"]}]}`)[1:]: `healthCheck: authorization.rules[1] lets b/c in, but nothing lets it ask GET /healthz`,
		`{"healthCheck":{"protocol":"grpc"},` + asked(`{"rules":[{"from":["*/*"],"methods":["GET"]}]}`)[1:]:                                       `healthCheck: authorization.rules[0] lets */* in, but nothing lets it ask POST /grpc.health.v1.Health/Check`,
		`{"healthCheck":{"path":"/healthz"},` + asked(`{"rules":[{"from":["*"],"paths":["/public"]}]}`)[1:]:                                       `healthCheck: authorization.rules[0] lets * in`,
		`{"retries":{"ifMethodIs":["*"]}}`:                                                                                                        `retries.ifMethodIs[0]: "*" would be compared as it stands`,
		`{"routes":[{"match":{"methods":["*"]}}]}`:                                                                                                `routes[0].match.methods[0]: "*" would be compared as it stands`,
		`{"routes":[{"match":{"prefix":"/"}},{"match":{"path":"/v1"}}]}`:                                                                          `routes[1]: is never reached, for routes[0] takes everything`,
		`{"routes":[{"match":{},"rewrite":{"host":"http://x"}}]}`:                                                                                 `routes[0].rewrite.host: "http://x"; allowed: a host name`,
		`{"outlierDetection":{"baseEjection":"10m","maxEjection":"1m"}}`:                                                                          `outlierDetection.maxEjection: 1m0s is less than baseEjection; allowed: 10m0s or more`,
		`{"routes":[{"match":{"path":"/a*"}}]}`:                                                                                                   `routes[0].match.path: "/a*" would be compared as it stands`,
		`{"routes":[{"match":{"prefix":"/a/{id}/b"}}]}`:                                                                                           `routes[0].match.prefix: "/a/{id}/b" would be compared as it stands`,
		`{"routes":[{"match":{"headers":{"X-A":"1","b":"*","x-a":"2"}}}]}`:                                                                        `routes[0].match.headers: "x-a" is there twice`,
	} {
		p, err := Decode([]byte(text))
		if err != nil {
			t.Errorf("%s is not read: %v", text, err)
			continue
		}
		if got := p.Vain(); len(got) != 1 || !strings.HasPrefix(got[0].Path+": "+got[0].Text, want) {
			t.Errorf("%s\n got %q\nwant %q", text, got, want)
		}
	}
	for _, rules := range []string{`[{"from":["*"],"paths":["/healthz"]},{"from":["a","b/c"],"prefixes":["/v1"]}]`, `[{"from":["a","b/c"],"prefixes":["/v1"]},{"from":["*/*"],"methods":["GET"],"prefixes":["/healthz"]}]`, `[]`, `[{"from":["d/*"]},{"from":["d/e"],"paths":["/v1"]}]`} {
		if got := read(t, `{"healthCheck":{"path":"/healthz"},`+asked(`{"rules":` + rules + `}`)[1:]).Vain(); got != nil {
			t.Errorf("%s: %q", rules, got)
		}
	}
	if got := read(t, asked(`{"rules":[{"from":["*"],"paths":["/","/a*b","/%C3%BC","/a%20b"],"prefixes":["/a/","/.a"]}]}`)).Vain(); got != nil {
		t.Errorf("%q", got)
	}
}
