// Package imds stands in for what an EC2 instance can ask about itself: the
// instance metadata service, version 2 alone.
//
// It owns the form of the answers, as far as they matter here. It must not know
// what the instance is for. Start reading at [Service.ServeHTTP]:
//
//	PUT /latest/api/token                                        a session
//	/latest/meta-data/instance-id, local-ipv4
//	/latest/meta-data/placement/region, availability-zone, availability-zone-id
//	/latest/meta-data/iam/security-credentials/[ROLE]            of its role
//	/latest/dynamic/instance-identity/document
package imds

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxTTL is the longest session, in seconds.
const maxTTL = 21600

const (
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
)

// Instance is the machine that asks.
type Instance struct {
	ID      string
	Account string
	Address string // private IPv4
	Region  string
	Zone    string // "eu-west-1a"
	ZoneID  string // "euw1-az2"
	Role    string // name; empty: it has no instance profile
	// KeyID, Secret and Token are the role's credentials.
	KeyID, Secret, Token string
}

// Service answers for one instance. It is safe for concurrent use.
type Service struct {
	mu       sync.Mutex
	instance Instance
	sessions map[string]time.Time // token → end
	off      bool
}

// New answers for an instance.
func New(i Instance) *Service { return &Service{instance: i, sessions: map[string]time.Time{}} }

// Disable is HttpEndpoint of the instance's metadata options: off, it answers
// everything with 403.
func (s *Service) Disable(off bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = off
}

// ServeHTTP implements [http.Handler].
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end, known := s.sessions[r.Header.Get(tokenHeader)]
	switch {
	case s.off:
		http.Error(w, "", http.StatusForbidden)
	case r.URL.Path == "/latest/api/token":
		s.session(w, r)
	case r.Method != http.MethodGet:
		http.Error(w, "", http.StatusMethodNotAllowed)
	case !known || time.Now().After(end):
		http.Error(w, "", http.StatusUnauthorized) // so is every call of version 1
	default:
		text, ok := s.answer(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte(text)) // the client may have left
	}
}

func (s *Service) session(w http.ResponseWriter, r *http.Request) {
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	switch {
	case r.Method != http.MethodPut:
		http.Error(w, "", http.StatusMethodNotAllowed)
	case r.Header.Get("X-Forwarded-For") != "": // a proxy on the instance must not hand sessions on
		http.Error(w, "", http.StatusForbidden)
	case err != nil || ttl < 1 || ttl > maxTTL:
		http.Error(w, "", http.StatusBadRequest)
	default:
		token := rand.Text()
		s.sessions[token] = time.Now().Add(time.Duration(ttl) * time.Second)
		w.Header().Set(ttlHeader, strconv.Itoa(ttl))
		fmt.Fprint(w, token)
	}
}

// answer is what stands at a path.
func (s *Service) answer(path string) (string, bool) {
	i := s.instance
	const roles = "/latest/meta-data/iam/security-credentials"
	switch path {
	case "/latest/meta-data/instance-id":
		return i.ID, true
	case "/latest/meta-data/local-ipv4":
		return i.Address, true
	case "/latest/meta-data/placement/region":
		return i.Region, true
	case "/latest/meta-data/placement/availability-zone":
		return i.Zone, true
	case "/latest/meta-data/placement/availability-zone-id":
		return i.ZoneID, i.ZoneID != ""
	case "/latest/dynamic/instance-identity/document":
		return encode(map[string]any{
			"version": "2017-09-30", "instanceId": i.ID, "accountId": i.Account, "region": i.Region, "availabilityZone": i.Zone,
			"privateIp": i.Address, "architecture": "x86_64", "imageId": "ami-0123456789abcdef0", "instanceType": "t3.small",
		}), true
	}
	if name, ok := strings.CutPrefix(path, roles); ok && i.Role != "" {
		switch strings.Trim(name, "/") {
		case "":
			return i.Role, true
		case i.Role:
			now := time.Now().UTC().Truncate(time.Second)
			return encode(map[string]any{
				"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": now, "Expiration": now.Add(6 * time.Hour),
				"AccessKeyId": i.KeyID, "SecretAccessKey": i.Secret, "Token": i.Token,
			}), true
		}
	}
	return "", false
}

func encode(v any) string {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic(err) // strings and times alone
	}
	return string(text)
}
