package config

import (
	"net/netip"
	"strings"

	"patchbay/config/strict"
)

// replicas holds the rules of replicas and of cloudMap.events.
func (k *checker) replicas(c Config, ports map[string]string) {
	if c.CloudMap != nil && c.CloudMap.Events != nil {
		at, e := "cloudMap.events", c.CloudMap.Events
		if e.QueueURL == "" {
			k.Bad(at+".queueURL", "is missing; allowed: the URL of an Amazon SQS queue, such as https://sqs.eu-west-1.amazonaws.com/111122223333/patchbay-events")
		} else {
			k.url(at+".queueURL", e.QueueURL, "http", "https")
		}
		if strings.HasSuffix(e.QueueURL, ".fifo") {
			k.Bad(at+".queueURL", "%s; allowed: a standard queue: EventBridge's order means nothing here", strict.Quote(e.QueueURL))
		}
		if e.Endpoint != "" {
			k.url(at+".endpoint", e.Endpoint, "http", "https")
		}
	}
	r := c.Replicas
	if r == nil || k.Spoiled("replicas") {
		return
	}
	if r.Listen == "" {
		k.Bad("replicas.listen", "is missing; allowed: IP:PORT, such as 0.0.0.0:18005")
	} else {
		k.listen("replicas.listen", r.Listen, ports)
	}
	if a, err := netip.ParseAddrPort(r.Advertise); r.Advertise != "" && (err != nil || a.Port() == 0 || a.Addr().IsUnspecified()) {
		k.Bad("replicas.advertise", "%s; allowed: IP:PORT at which the other replicas reach this one, such as 10.0.0.5:18005", strict.Quote(r.Advertise))
	}
}
