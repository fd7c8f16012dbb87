package identity

import (
	"bufio"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"patchbay/identity/join"
	"patchbay/mesh"
)

// skew is how far an agent's clock may be off.
const skew = time.Minute

// ErrProof is wrapped by every refusal of a proof; ErrForeign besides where
// the proof is good, but for another workload.
var (
	ErrProof   = errors.New("the join proof is refused")
	ErrForeign = errors.New("it is for another workload")
)

// verifyProof checks everything about a proof but whether it was used before.
func verifyProof(w *Workloads, trustDomain, proof string, csrDER []byte, now time.Time) (mesh.Workload, join.Claims, error) {
	var claims join.Claims
	refuse := func(format string, args ...any) (mesh.Workload, join.Claims, error) {
		return mesh.Workload{}, claims, fmt.Errorf("%w: %w", ErrProof, fmt.Errorf(format, args...))
	}
	token, err := jwt.ParseSigned(proof, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(token.Headers) != 1 {
		return refuse("it is not a compact JWS signed with ES256")
	}
	id := token.Headers[0].KeyID
	key, ok, err := w.key(id)
	if !ok {
		return refuse("key id %q is not registered: run `patchbay token join` for this workload on the control plane's data directory (%w)", id, orNothingElse(err))
	}
	if err := token.Claims(key.public, &claims); err != nil {
		return refuse("its signature is not that of key %q", id)
	}
	switch {
	case claims.Issuer != key.workload.String():
		return refuse("key %q is that of %s, the proof says %q: %w", id, key.workload, claims.Issuer, ErrForeign)
	case len(claims.Audience) != 1 || claims.Audience[0] != join.Audience(trustDomain):
		return refuse("its audience is %q; this is %q", claims.Audience, join.Audience(trustDomain))
	case claims.ID == "" || len(claims.ID) > 128 || strings.ContainsAny(claims.ID, " \n"):
		return refuse("it has no usable id (jti)")
	case claims.IssuedAt == nil || claims.Expiry == nil:
		return refuse("it has no time of issue (iat) or expiry (exp)")
	}
	issued, expires := claims.IssuedAt.Time(), claims.Expiry.Time()
	switch {
	case expires.Sub(issued) > join.MaxProofLife:
		return refuse("it lives for %v; allowed: %v", expires.Sub(issued), join.MaxProofLife)
	case issued.After(now.Add(skew)):
		return refuse("it was issued at %s, in the future: compare the clocks (here it is %s)", issued.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case now.After(expires.Add(skew)):
		return refuse("it expired %v ago, at %s", now.Sub(expires).Round(time.Second), expires.UTC().Format(time.RFC3339))
	case subtle.ConstantTimeCompare([]byte(claims.CSR), []byte(join.Digest(csrDER))) != 1:
		return refuse("it belongs to another certificate request")
	}
	return key.workload, claims, nil
}

func orNothingElse(err error) error {
	if err == nil {
		return errors.New("all identity files are well-formed")
	}
	return err
}

// used remembers the ids of proofs until they expire, across restarts. It is
// safe for concurrent use.
type used struct {
	path string

	mu   sync.Mutex
	ids  map[string]time.Time // expiry, with skew
	file *os.File
}

// openUsed reads what was remembered, leaves out what has expired, and goes
// on appending. A last line that a crash cut off is dropped: its proof was
// never answered.
func openUsed(path string, now time.Time) (*used, error) {
	u := &used{path: path, ids: map[string]time.Time{}}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("remember proofs: %w", err)
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remember proofs: %w", err)
	}
	var kept strings.Builder
	for lines := bufio.NewScanner(strings.NewReader(string(text))); lines.Scan(); {
		at, id, ok := strings.Cut(lines.Text(), " ")
		unix, err := strconv.ParseInt(at, 10, 64)
		if expiry := time.Unix(unix, 0); ok && err == nil && expiry.After(now) {
			u.ids[id] = expiry
			fmt.Fprintln(&kept, lines.Text())
		}
	}
	if err := writeFile(path, []byte(kept.String()), 0o600); err != nil {
		return nil, fmt.Errorf("remember proofs: %w", err)
	}
	if u.file, err = os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("remember proofs: %w", err)
	}
	return u, nil
}

// claim marks an id as used, on disk before it answers true. It answers false
// for one that was used before.
func (u *used) claim(workload, id string, expiry, now time.Time) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := workload + "#" + id
	if _, again := u.ids[key]; again {
		return false, nil
	}
	for k, e := range u.ids {
		if !e.After(now) {
			delete(u.ids, k)
		}
	}
	expiry = expiry.Add(skew).Truncate(time.Second).Add(time.Second)
	if _, err := fmt.Fprintf(u.file, "%d %s\n", expiry.Unix(), key); err != nil {
		return false, fmt.Errorf("remember proof: %w", err)
	}
	if err := u.file.Sync(); err != nil {
		return false, fmt.Errorf("remember proof: %w", err)
	}
	u.ids[key] = expiry
	return true, nil
}
