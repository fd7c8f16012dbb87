package program

import "time"

// Line is one of the bill: GET /bill.
type Line struct {
	What   string  `json:"what"`
	Count  int     `json:"count"`
	Dollar float64 `json:"dollar"` // for Count of it
}

// Prices in us-east-1, as AWS lists them: aws.amazon.com/cloud-map/pricing,
// /private-ca/pricing (short-lived, general purpose up to 1,000 a month) and
// /secrets-manager/pricing. What is charged by the month (the CA itself, each
// secret, each registered instance) is not here: it does not depend on calls.
const (
	perDiscovery    = 1.00 / 1e6
	perShortLived   = 0.058
	perCertificate  = 0.75
	perSecretsCall  = 0.05 / 1e4
	discoverCall    = "DiscoverInstances"
	revisionCall    = "DiscoverInstancesRevision"
	issueCall       = "IssueCertificate"
	secretsService  = "secretsmanager"
	cloudMapService = "servicediscovery"
)

// Bill is what the calls so far cost. STS and ECS are free, and so is what
// writes to Cloud Map.
func (p *Program) Bill() []Line {
	counts := map[string]int{}
	for _, s := range p.Sums() {
		switch {
		case s.Service == cloudMapService && (s.Operation == discoverCall || s.Operation == revisionCall):
			counts["cloud map"] += s.Answered
		case s.Operation == issueCall:
			counts["certificates"] += s.Answered
		case s.Service == secretsService:
			counts["secrets"] += s.Answered
		}
	}
	certificate := perCertificate
	if p.o.ShortLived {
		certificate = perShortLived
	}
	line := func(what, key string, price float64) Line {
		return Line{what, counts[key], float64(counts[key]) * price}
	}
	return []Line{
		line("Cloud Map discovery calls", "cloud map", perDiscovery),
		line("Private CA certificates", "certificates", certificate),
		line("Secrets Manager calls", "secrets", perSecretsCall),
		{What: "seconds", Count: int(time.Since(p.begun).Seconds())},
	}
}
