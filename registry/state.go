package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"
)

// The objects as they are stored: JSON under "ns/ID", "svc/ID",
// "inst/SERVICE/ID" and "op/ID".
type namespace struct {
	ID, Name, Type, Description, CreatorRequestID string
	CreateDate                                    float64
	Tags                                          map[string]string
	// Floor is at least every revision that a service of this namespace ever
	// had: a service that is made again starts above it.
	Floor int64
}

type service struct {
	ID, NamespaceID, Name, Description, CreatorRequestID, Type string
	CreateDate                                                 float64
	HealthCheckCustom                                          bool
	DNSConfig                                                  json.RawMessage
	HealthCheckConfig                                          json.RawMessage
	Tags                                                       map[string]string
	Attributes                                                 map[string]string
	Revision                                                   int64 // +1 for each change of membership
	instances                                                  map[string]*instance
}

type instance struct {
	ID, CreatorRequestID string
	Attributes           map[string]string
	Health               string // HEALTHY, UNHEALTHY; by custom health check
}

type operation struct {
	ID, Type, Status       string
	CreateDate, UpdateDate float64
	Targets                map[string]string
	Token                  string // of the request that made it
}

func (s *Server) load() error {
	instances := map[string][]*instance{}
	err := s.store.Load(func(key string, value []byte) error {
		kind, id, _ := strings.Cut(key, "/")
		var into any
		switch kind {
		case "ns":
			n := &namespace{}
			s.namespaces[id], into = n, n
		case "svc":
			v := &service{instances: map[string]*instance{}}
			s.services[id], into = v, v
		case "op":
			o := &operation{}
			s.operations[id], into = o, o
		case "inst":
			svc, _, _ := strings.Cut(id, "/")
			i := &instance{}
			instances[svc], into = append(instances[svc], i), i
		default:
			return fmt.Errorf("unknown key %q", key)
		}
		if err := json.Unmarshal(value, into); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	})
	for svc, list := range instances {
		if v := s.services[svc]; v != nil {
			for _, i := range list {
				v.instances[i.ID] = i
			}
		}
	}
	return err
}

// batch collects what one request writes; commit makes it durable before the
// answer goes out.
type batch map[string][]byte

func (b batch) put(key string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	b[key] = text
	return nil
}

func instanceKey(svc, id string) string { return "inst/" + svc + "/" + id }

func now() float64 { return float64(time.Now().UnixMilli()) / 1000 }

func clone(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

func (s *Server) arn(kind, id string) string {
	return fmt.Sprintf("arn:aws:servicediscovery:%s:%s:%s/%s", s.o.Region, s.o.Account, kind, id)
}

// plain strips an ARN down to its id; ids pass.
func plain(idOrARN string) string {
	if strings.HasPrefix(idOrARN, "arn:") {
		return idOrARN[strings.LastIndexByte(idOrARN, '/')+1:]
	}
	return idOrARN
}
