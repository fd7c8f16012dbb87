package sharing

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"patchbay/identity"
)

const domain = "demo.patchbay"

// vault keeps the first thing that comes.
type vault struct {
	mu   sync.Mutex
	pem  []byte
	away error
}

func (v *vault) Load(context.Context) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.pem, v.away
}

func (v *vault) Save(_ context.Context, pem []byte) (bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.pem != nil {
		return false, v.away
	}
	v.pem = pem
	return true, v.away
}

// However many replicas start at once, all have one CA in the end, also after
// a restart; one that has another says so and keeps it.
func TestReplicasShareTheSigner(t *testing.T) {
	v := &vault{}
	dirs := make([]string, 8)
	var wg sync.WaitGroup
	for i := range dirs {
		dirs[i] = filepath.Join(t.TempDir(), "data", "control")
		wg.Go(func() {
			if err := Signer(t.Context(), dirs[i], domain, v); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var ca []byte
	for _, d := range dirs {
		if err := Signer(t.Context(), d, domain, v); err != nil {
			t.Error(err)
		}
		s, err := identity.OpenSigner(d, domain)
		if err != nil {
			t.Fatal(err)
		}
		if ca == nil {
			ca = s.CA()
		}
		if !bytes.Equal(ca, s.CA()) {
			t.Error("two replicas have two CAs")
		}
	}
	other := filepath.Join(t.TempDir(), "control")
	mine, err := identity.OpenSigner(other, domain)
	if err != nil {
		t.Fatal(err)
	}
	if err := Signer(t.Context(), other, domain, v); !errors.Is(err, ErrOtherSigner) {
		t.Errorf("a replica with another CA: %v", err)
	}
	if s, err := identity.OpenSigner(other, domain); err != nil || !bytes.Equal(s.CA(), mine.CA()) {
		t.Errorf("its CA was touched: %v", err)
	}
	v.away = errors.New("away")
	if err := Signer(t.Context(), filepath.Join(t.TempDir(), "control"), domain, v); !errors.Is(err, v.away) {
		t.Errorf("without the vault: %v", err)
	}
}
