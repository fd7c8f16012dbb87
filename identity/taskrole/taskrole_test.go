package taskrole

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"

	fakeecs "patchbay/internal/awsfake/ecs"
	"patchbay/internal/awsfake/sts"
	"patchbay/internal/awsfake/wire"
	"patchbay/mesh"
)

const (
	audience = "patchbay:prod.example"
	region   = "eu-west-1"
	taskID   = "0123456789abcdef0123456789abcdef"
	roleName = "arn:aws:iam::111122223333:role/mesh/backend"
	family   = "arn:aws:ecs:eu-west-1:111122223333:task-definition/backend:7"
)

var (
	backend = mesh.Workload{Namespace: "prod", Name: "backend", DiscoveryNames: []string{"backend"}}
	address = netip.MustParseAddr("10.0.1.17")
	csr     = []byte("a certificate request")
)

// cloud is AWS with one task of the service backend.
type cloud struct {
	t   *testing.T
	aws *wire.Server
	ecs *fakeecs.ECS
	url string
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	e := fakeecs.New()
	s := wire.New(wire.Options{Region: region, Principals: map[string]wire.Principal{
		"CONTROLPLANE": {Secret: "cp", ARN: "arn:aws:sts::111122223333:assumed-role/patchbay/1"},
	}}, sts.API(), e.API())
	s.Grant("ASIATASK", task("backend", taskID))
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	e.Define(family, roleName)
	e.Put(fakeecs.Task{ID: taskID, Cluster: "prod", Service: "backend", Address: "10.0.1.17", Definition: family})
	return &cloud{t, s, e, h.URL}
}

// task is the session of a task's role.
func task(role, session string) wire.Principal {
	return wire.Principal{Secret: "task secret", Token: "session token", Account: "111122223333", ARN: "arn:aws:sts::111122223333:assumed-role/" + role + "/" + session, UserID: "AROAEXAMPLE:" + session}
}

func (c *cloud) tasks() Roles {
	api := ecs.New(ecs.Options{Region: region, BaseEndpoint: &c.url, Credentials: credentials.NewStaticCredentialsProvider("CONTROLPLANE", "cp", "")})
	return Roles{Tasks(NewVerifier(audience, region, c.url), api, []Role{{Workload: backend, ARN: roleName, Cluster: "prod", Service: "backend"}})}
}

// proof is a good one.
func (c *cloud) proof() string {
	c.t.Helper()
	p, err := Sign(c.t.Context(), credentials.NewStaticCredentialsProvider("ASIATASK", "task secret", "session token"), region, c.url, audience, csr)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

func node(w mesh.Workload, id string) mesh.Node { return mesh.Node{Workload: w, Task: id} }

func (c *cloud) admit(proof string) (mesh.Workload, error) {
	w, id, expires, err := c.tasks().Admit(c.t.Context(), proof, csr, node(backend, taskID), address, time.Now())
	if err == nil && (id == "" || time.Until(expires) > fresh+time.Second || time.Until(expires) < fresh-time.Minute) {
		c.t.Errorf("proof %q until %s", id, expires)
	}
	return w, err
}

func TestATaskIsAdmitted(t *testing.T) {
	c := newCloud(t)
	w, err := c.admit(c.proof())
	if err != nil || w.String() != "prod/backend" || !w.Offers(mesh.ServiceName{Namespace: "prod", DiscoveryName: "backend"}) {
		t.Errorf("%v, %v", w, err)
	}
	if err := c.tasks().Still(t.Context(), node(backend, taskID), address); err != nil {
		t.Error(err)
	}
	for _, status := range []string{"PENDING", "ACTIVATING"} {
		c.ecs.Put(fakeecs.Task{ID: taskID, Cluster: "prod", Service: "backend", Address: "10.0.1.17", Definition: family, LastStatus: status})
		if _, err := c.admit(c.proof()); err != nil {
			t.Errorf("%s: %v", status, err)
		}
	}
}

// A proof is good once.
func TestReplay(t *testing.T) {
	c := newCloud(t)
	used := map[string]bool{}
	claim := func(_ context.Context, id string, until, now time.Time) (bool, error) {
		first := !used[id]
		used[id] = true
		return first, nil
	}
	proof := c.proof()
	for i, want := range []bool{true, false} {
		n, err := c.tasks().Enrol(t.Context(), proof, csr, node(backend, taskID), address, time.Now(), claim)
		if (err == nil) != want || want && n.ID() != "prod/backend/"+taskID || !want && !errors.Is(err, ErrRefused) {
			t.Errorf("use %d: %v, %v", i+1, n, err)
		}
	}
}

// TestForgeries has what an attacker who holds a proof, another role, or a
// place on the network may try. None may reach anything but our STS, and none
// is admitted.
func TestForgeries(t *testing.T) {
	change := func(f func(s *signed)) func(string) string {
		return func(proof string) string {
			var s signed
			text, _ := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(proof, Prefix))
			if err := json.Unmarshal(text, &s); err != nil {
				panic(err)
			}
			f(&s)
			text, _ = json.Marshal(s)
			return Prefix + base64.RawURLEncoding.EncodeToString(text)
		}
	}
	header := func(name, value string) func(string) string {
		return change(func(s *signed) { s.Headers[name] = value })
	}
	auth := func(old, new string) func(string) string {
		return change(func(s *signed) { s.Headers["Authorization"] = strings.Replace(s.Headers["Authorization"], old, new, 1) })
	}
	raw := func(text string) func(string) string {
		return func(string) string { return Prefix + base64.RawURLEncoding.EncodeToString([]byte(text)) }
	}
	for name, x := range map[string]struct {
		forge func(string) string
		want  string
	}{
		"empty":                      {func(string) string { return "" }, "begins with"},
		"another kind":               {func(p string) string { return strings.TrimPrefix(p, Prefix) }, "begins with"},
		"huge":                       {func(p string) string { return p + strings.Repeat("A", 1<<20) }, "allowed: 16384"},
		"not base64":                 {func(string) string { return Prefix + "!" }, "not base64url"},
		"not JSON":                   {raw("hello"), "not a signed request"},
		"a URL of its own":           {raw(`{"url":"https://evil.example/","host":"h","headers":{},"body":""}`), "not a signed request"},
		"a method of its own":        {raw(`{"method":"GET","host":"h","headers":{},"body":""}`), "not a signed request"},
		"two requests":               {raw(`{"host":"h","headers":{},"body":""}{}`), "not a signed request"},
		"host of the attacker":       {change(func(s *signed) { s.Host = "sts.evil.example" }), "it is for"},
		"host with a user":           {change(func(s *signed) { s.Host = "sts.eu-west-1.amazonaws.com@evil.example" }), "it is for"},
		"host of another service":    {change(func(s *signed) { s.Host = "iam.amazonaws.com" }), "it is for"},
		"host of another region":     {change(func(s *signed) { s.Host = "sts.us-east-1.amazonaws.com" }), "give the caller the region"},
		"another action":             {change(func(s *signed) { s.Body = "Action=AssumeRole&Version=2011-06-15" }), "its body"},
		"two actions":                {change(func(s *signed) { s.Body += "&Action=GetSessionToken" }), "its body"},
		"an X-Amz header":            {header("X-Amz-Target", "evil"), `header "X-Amz-Target"`},
		"a Host header":              {header("Host", "evil.example"), `header "Host"`},
		"a forwarded header":         {header("X-Forwarded-Host", "evil.example"), "header"},
		"a header twice":             {header("x-patchbay-audience", audience), "header"},
		"a line end in a header":     {header("X-Amz-Security-Token", "a\r\nHost: evil.example"), "printable"},
		"JSON wanted as answer":      {header("Accept", "application/json"), "header"},
		"another content type":       {header("Content-Type", "application/json"), "Content-Type"},
		"no audience":                {change(func(s *signed) { delete(s.Headers, audienceHeader) }), "no header X-Patchbay-Audience"},
		"audience of another mesh":   {header(audienceHeader, "patchbay:other"), "it is for"},
		"another request's":          {header(requestHeader, strings.Repeat("0", 64)), "another certificate request"},
		"audience not signed":        {auth("x-patchbay-audience", "x-patchbay-nobody"), "its signature covers"},
		"request not signed":         {auth(";x-patchbay-csr", ""), "its signature covers"},
		"host not signed":            {auth("host;", ""), "its signature covers"},
		"token not signed":           {auth(";x-amz-security-token", ""), "its signature covers"},
		"more signed than sent":      {auth("host;", "host;x-amz-extra;"), "its signature covers"},
		"not Signature Version 4":    {header("Authorization", "Bearer x"), "not a Signature Version 4"},
		"signed for another service": {auth("/sts/", "/s3/"), "not a Signature Version 4"},
		"signed for another region":  {auth("/"+region+"/", "/us-east-1/"), "for region"},
		"another day's scope":        {auth("/20", "/19"), "not the time of its signature"},
		"a date moved":               {header("X-Amz-Date", time.Now().UTC().Add(time.Minute).Format("20060102T150405Z")), "does not match"},
		"a signature guessed": {change(func(s *signed) {
			a := s.Headers["Authorization"]
			s.Headers["Authorization"] = a[:len(a)-64] + strings.Repeat("a", 64)
		}), "does not match"},
		"another's key id": {auth("ASIATASK", "CONTROLPLANE"), "answers 403"},
		"no session token": {change(func(s *signed) {
			delete(s.Headers, "X-Amz-Security-Token")
			s.Headers["Authorization"] = strings.Replace(s.Headers["Authorization"], "x-amz-security-token;", "", 1)
		}), "answers 403"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			good := c.proof()
			forged := x.forge(good)
			if forged == good {
				t.Fatal("nothing was forged")
			}
			_, err := c.admit(forged)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v; want %q", err, x.want)
			}
			if n := c.aws.Count("DescribeTasks"); n != 0 {
				t.Error("ECS was asked for a forger")
			}
		})
	}
}

// Good signatures of those who are somebody else.
func TestOthers(t *testing.T) {
	for name, x := range map[string]struct {
		who  wire.Principal
		want string
	}{
		"another role":          {task("frontend", taskID), "workload prod/backend is role"},
		"another account":       {wire.Principal{Secret: "task secret", Token: "session token", Account: "444455556666", ARN: "arn:aws:sts::444455556666:assumed-role/backend/" + taskID}, "workload prod/backend is role"},
		"another session":       {task("backend", "ffffffffffffffffffffffffffffffff"), "AWS says that it is task"},
		"a user":                {wire.Principal{Secret: "task secret", Token: "session token", Account: "111122223333", ARN: "arn:aws:iam::111122223333:user/backend"}, "allowed: the role of a task"},
		"the root":              {wire.Principal{Secret: "task secret", Token: "session token", Account: "111122223333", ARN: "arn:aws:iam::111122223333:root"}, "allowed: the role of a task"},
		"a federated user":      {wire.Principal{Secret: "task secret", Token: "session token", Account: "111122223333", ARN: "arn:aws:sts::111122223333:federated-user/backend"}, "allowed: the role of a task"},
		"an ARN with a newline": {task("backend", taskID+"\nx"), "allowed: the role of a task"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			c.aws.Grant("ASIATASK", x.who)
			if _, err := c.admit(c.proof()); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v; want %q", err, x.want)
			}
		})
	}
}

// A proof is good for five minutes around its time.
func TestFreshness(t *testing.T) {
	c := newCloud(t)
	for after, ok := range map[time.Duration]bool{-6 * time.Minute: false, -4 * time.Minute: true, 4 * time.Minute: true, 6 * time.Minute: false} {
		_, _, _, err := c.tasks().Admit(t.Context(), c.proof(), csr, node(backend, taskID), address, time.Now().Add(after))
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "compare the clocks") {
			t.Errorf("%s: %v", after, err)
		}
	}
	_, _, _, err := c.tasks().Admit(t.Context(), c.proof(), []byte("another request"), node(backend, taskID), address, time.Now())
	if !errors.Is(err, ErrRefused) {
		t.Errorf("with another request: %v", err)
	}
}

// What ECS knows of the task must fit.
func TestWhatECSSays(t *testing.T) {
	good := fakeecs.Task{ID: taskID, Cluster: "prod", Service: "backend", Address: "10.0.1.17", Definition: family}
	for name, x := range map[string]struct {
		change func(*fakeecs.Task)
		want   string
	}{
		"stopped":                      {func(t *fakeecs.Task) { t.LastStatus = "STOPPED" }, "is STOPPED"},
		"stopping":                     {func(t *fakeecs.Task) { t.DesiredStatus = "STOPPED" }, "is to be STOPPED"},
		"deactivating":                 {func(t *fakeecs.Task) { t.LastStatus = "DEACTIVATING" }, "is DEACTIVATING"},
		"another service":              {func(t *fakeecs.Task) { t.Service = "frontend" }, `of "service:frontend"`},
		"run by hand":                  {func(t *fakeecs.Task) { t.Group = "family:backend" }, `of "family:backend"`},
		"another role by override":     {func(t *fakeecs.Task) { t.RoleOverride = "arn:aws:iam::111122223333:role/mesh/frontend" }, "has role"},
		"a role of the same name":      {func(t *fakeecs.Task) { t.RoleOverride = "arn:aws:iam::111122223333:role/other/backend" }, "has role"},
		"another address":              {func(t *fakeecs.Task) { t.Address = "10.0.1.18" }, "PROXY protocol v2"},
		"no address":                   {func(t *fakeecs.Task) { t.Address = "" }, "join key"},
		"in another cluster":           {func(t *fakeecs.Task) { t.Cluster = "staging" }, "no ECS cluster prod"},
		"an unknown task definition":   {func(t *fakeecs.Task) { t.Definition = "x" }, "DescribeTaskDefinition"},
		"unknown to ECS, others known": {func(t *fakeecs.Task) { t.ID = "ffffffffffffffffffffffffffffffff" }, "ECS has no task"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			e := fakeecs.New()
			h := httptest.NewServer(wire.New(wire.Options{Region: region, Account: "111122223333"}, e.API()))
			t.Cleanup(h.Close)
			e.Define(family, roleName)
			changed := good
			x.change(&changed)
			e.Put(changed)
			tasks := c.tasks()
			tasks[0].census = ofECS{ecs.New(ecs.Options{Region: region, BaseEndpoint: &h.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")})}
			_, _, _, err := tasks.Admit(t.Context(), c.proof(), csr, node(backend, taskID), address, time.Now())
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v; want %q", err, x.want)
			}
			if err := tasks.Still(t.Context(), node(backend, taskID), address); err == nil {
				t.Error("it is still admitted")
			}
		})
	}
}

// AWS that is away, slow or confused admits nobody, and is not taken for a
// refusal of the task.
func TestAWSInTrouble(t *testing.T) {
	for name, f := range map[string]wire.Fault{
		"STS 5xx": {Operation: "GetCallerIdentity", Error: "InternalFailure", Status: 503}, "STS lost": {Operation: "GetCallerIdentity", Lost: true},
		"STS cut": {Operation: "GetCallerIdentity", Cut: true}, "STS hangs": {Operation: "GetCallerIdentity", Hang: true},
		"ECS 5xx": {Operation: "DescribeTasks", Error: "ServerException", Status: 500}, "ECS throttles": {Operation: "DescribeTasks", Error: "ThrottlingException"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			c.aws.Inject(f)
			ctx, stop := context.WithTimeout(t.Context(), 15*time.Second)
			if f.Hang {
				ctx, stop = context.WithTimeout(t.Context(), 50*time.Millisecond)
			}
			defer stop()
			tasks := c.tasks()
			tasks[0].census = ofECS{ecs.New(ecs.Options{Region: region, BaseEndpoint: &c.url, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("CONTROLPLANE", "cp", "")})}
			_, _, _, err := tasks.Admit(ctx, c.proof(), csr, node(backend, taskID), address, time.Now())
			if err == nil || errors.Is(err, ErrRefused) {
				t.Errorf("%v", err)
			}
		})
	}
}

// What answers in the place of STS is not believed.
func TestImpostorsOfSTS(t *testing.T) {
	result := func(arn string) string {
		return "<GetCallerIdentityResult><Arn>" + arn + "</Arn><Account>111122223333</Account></GetCallerIdentityResult>"
	}
	mine := "arn:aws:sts::111122223333:assumed-role/backend/" + taskID
	whole := func(inner string) string {
		return "<GetCallerIdentityResponse>" + inner + "</GetCallerIdentityResponse>"
	}
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("a redirect was followed")
		w.Header().Set("Content-Type", "text/xml")
		io.WriteString(w, whole(result(mine))) //nolint:errcheck // test
	}))
	defer elsewhere.Close()
	for name, x := range map[string]struct {
		status     int
		kind, body string
	}{
		"a redirect":           {http.StatusTemporaryRedirect, "text/xml", ""},
		"JSON":                 {200, "application/json", `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Arn":"` + mine + `"}}}`},
		"HTML":                 {200, "text/html", whole(result(mine))},
		"two results":          {200, "text/xml", whole(result("arn:aws:sts::111122223333:assumed-role/other/x") + result(mine))},
		"two answers":          {200, "text/xml", whole(result(mine)) + whole(result(mine))},
		"no result":            {200, "text/xml", whole("")},
		"the result elsewhere": {200, "text/xml", "<ErrorResponse><Error><Message>" + result(mine) + "</Message></Error></ErrorResponse>"},
		"in a comment":         {200, "text/xml", whole("<!--" + result(mine) + "-->")},
		"endless":              {200, "text/xml", whole(result(mine)) + strings.Repeat(" ", 1<<20)},
		"another account":      {200, "text/xml", whole(strings.Replace(result(mine), "<Account>1", "<Account>9", 1))},
		"status 201":           {201, "text/xml", whole(result(mine))},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			impostor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", x.kind)
				w.Header().Set("Location", elsewhere.URL)
				w.WriteHeader(x.status)
				io.WriteString(w, x.body) //nolint:errcheck // test
			}))
			defer impostor.Close()
			proof, err := Sign(t.Context(), credentials.NewStaticCredentialsProvider("ASIATASK", "task secret", "session token"), region, impostor.URL, audience, csr)
			if err != nil {
				t.Fatal(err)
			}
			tasks := c.tasks()
			tasks[0].verifier = NewVerifier(audience, region, impostor.URL)
			if w, _, _, err := tasks.Admit(t.Context(), proof, csr, node(backend, taskID), address, time.Now()); err == nil {
				t.Errorf("admitted as %v", w)
			}
		})
	}
}

// A proof holds no key, and the region's own STS is asked by default.
func TestSign(t *testing.T) {
	p, err := Sign(t.Context(), credentials.NewStaticCredentialsProvider("ASIATASK", "task secret", "session token"), "cn-north-1", "", audience, csr)
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(p, Prefix))
	if err != nil || strings.Contains(string(text), "task secret") || !strings.Contains(string(text), `"host":"sts.cn-north-1.amazonaws.com.cn"`) || len(p) > 4096 {
		t.Errorf("%v: %s", err, text)
	}
	if _, err := Sign(t.Context(), aws.AnonymousCredentials{}, region, "", audience, csr); err == nil {
		t.Error("signed without credentials")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Prefix + base64.RawURLEncoding.EncodeToString([]byte(`{"host":"h","headers":{"Authorization":"x"},"body":"b"}`)))
	v := NewVerifier(audience, region, "")
	f.Fuzz(func(t *testing.T, proof string) {
		s, err := parse(proof)
		if err != nil {
			return
		}
		if _, _, err := v.check(s, csr, time.Now()); err == nil && (s.Host != Host(region) || s.Body != callerBody) {
			t.Errorf("accepted %+v", s)
		}
	})
}
