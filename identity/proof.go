package identity

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"patchbay/identity/join"
	"patchbay/identity/registered"
)

// errProof is wrapped by every refusal of a proof; errForeign besides where
// the proof is good, but for another workload.
var (
	errProof   = errors.New("the join proof is refused")
	errForeign = errors.New("it is for another workload")
)

// clocks is what to do about a proof of the wrong time.
var clocks = fmt.Sprintf("compare the clocks of the task and of the control plane; allowed: %s apart", inMinutes(skew))

// inMinutes is exact enough for people, and says the same at each attempt.
func inMinutes(d time.Duration) string { return fmt.Sprintf("%.0f min", d.Minutes()) }

// maxProof is far above what an agent makes (about 600 bytes).
const maxProof = 8 << 10

// verifyProof checks everything about a proof but whether it was used before.
func verifyProof(w *registered.Workloads, trustDomain, proof string, csrDER []byte, now time.Time) (registered.Key, join.Claims, error) {
	var claims join.Claims
	refuse := func(format string, args ...any) (registered.Key, join.Claims, error) {
		return registered.Key{}, claims, fmt.Errorf("%w: %w", errProof, fmt.Errorf(format, args...))
	}
	if len(proof) > maxProof {
		return refuse("it has %d bytes; allowed: %d", len(proof), maxProof)
	}
	token, err := jwt.ParseSigned(proof, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(token.Headers) != 1 {
		return refuse("it is not a compact JWS signed with ES256")
	}
	key, err := w.Key(token.Headers[0].KeyID)
	if err != nil {
		return refuse("%w", err)
	}
	if err := token.Claims(key.Public, &claims); err != nil {
		return refuse("its signature is not that of join key %q", key.ID)
	}
	switch {
	case claims.Issuer != key.Workload.String():
		return refuse("join key %q is that of %s, the proof says %.200q: %w", key.ID, key.Workload, claims.Issuer, errForeign)
	case len(claims.Audience) != 1 || claims.Audience[0] != join.Audience(trustDomain):
		return refuse("its audience is %.200q; this is %q", claims.Audience, join.Audience(trustDomain))
	case claims.ID == "" || len(claims.ID) > 128 || strings.ContainsAny(claims.ID, " \r\n"):
		return refuse("it has no usable id (jti)")
	case claims.IssuedAt == nil || claims.Expiry == nil:
		return refuse("it has no time of issue (iat) or expiry (exp)")
	}
	issued, expires := claims.IssuedAt.Time(), claims.Expiry.Time()
	switch {
	case expires.Sub(issued) > join.MaxProofLife:
		return refuse("it lives for %v; allowed: %v", expires.Sub(issued), join.MaxProofLife)
	case issued.After(now.Add(skew)):
		return refuse("it will be issued in %s: %s", inMinutes(issued.Sub(now)), clocks)
	case now.After(expires.Add(skew)):
		return refuse("it expired %s ago: %s", inMinutes(now.Sub(expires)), clocks)
	case subtle.ConstantTimeCompare([]byte(claims.CSR), []byte(join.Digest(csrDER))) != 1:
		return refuse("it belongs to another certificate request")
	}
	return key, claims, nil
}
