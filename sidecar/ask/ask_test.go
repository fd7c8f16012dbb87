package ask

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"testing"

	"patchbay/agentapi"
	"patchbay/internal/testca"
)

// taken sends v as the answer of question 7 and returns what goes up.
func taken(t *testing.T, v any) (parts []*agentapi.Answer) {
	t.Helper()
	say := make(chan *agentapi.Up)
	go func() {
		send(t.Context(), say, 7, v)
		close(say)
	}()
	for up := range say {
		parts = append(parts, up.GetAnswer())
	}
	return parts
}

func TestLongAnswersComeInParts(t *testing.T) {
	random := make([]byte, 3*partMost)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	parts := taken(t, random)
	if len(parts) < 3 {
		t.Fatalf("%d parts", len(parts))
	}
	var packed []byte
	for i, p := range parts {
		if len(p.GetPart()) > partMost || p.GetMore() != (i < len(parts)-1) || p.GetId() != 7 {
			t.Errorf("part %d: %d bytes, more %v, id %d", i, len(p.GetPart()), p.GetMore(), p.GetId())
		}
		packed = append(packed, p.GetPart()...)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	var got []byte
	if err := json.Unmarshal(b, &got); err != nil || !bytes.Equal(got, random) {
		t.Errorf("not what was sent: %v", err)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestNoAnswerHoldsAKey: whatever the form and the offset of a canary key.
func TestNoAnswerHoldsAKey(t *testing.T) {
	_, key := testca.New(t).Issue(t, "canary")
	forms := []string{string(key)}
	for pad := range 3 {
		forms = append(forms, base64.StdEncoding.EncodeToString(append(bytes.Repeat([]byte("x"), pad), key...)))
	}
	for _, f := range forms {
		parts := taken(t, map[string]string{"page": f})
		if len(parts) != 1 || parts[0].GetError() == "" || len(parts[0].GetPart()) > 0 {
			t.Errorf("%.40q went up", f)
		}
	}
	if parts := taken(t, "PUBLIC KEY"); parts[0].GetError() != "" {
		t.Error(parts[0].GetError())
	}
}

func TestSocketAddress(t *testing.T) {
	for text, want := range map[string]string{
		"0100007F:1F90":                         "127.0.0.1:8080",
		"00000000:3A98":                         "0.0.0.0:15000",
		"00000000000000000000000001000000:0050": "[::1]:80",
		"0000000000000000FFFF00000100007F:0050": "127.0.0.1:80",
	} {
		if got, err := socketAddr(text); err != nil || got.String() != want {
			t.Errorf("%s is %s (%v), want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0100007F", "01:1F90", "xx:1F90", "0100007F:99999"} {
		if _, err := socketAddr(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestListeningFindsOurSocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got, err := listening()
	if err != nil || !slices.Contains(got, l.Addr().String()) {
		t.Errorf("%s is not among %v (%v)", l.Addr(), got, err)
	}
}
