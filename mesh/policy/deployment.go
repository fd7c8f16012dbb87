package policy

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// Deployment is how calls move to a new revision of a service, in the words of
// ECS's deploymentConfiguration.
type Deployment struct {
	Strategy string  `json:"strategy"` // one of [Strategies]
	Canary   *Canary `json:"canaryConfiguration,omitempty"`
	Linear   *Linear `json:"linearConfiguration,omitempty"`
}

// Canary is a share at first, and everything after a while.
type Canary struct {
	Percent     *float64 `json:"canaryPercent,omitempty"`           // absent: 5
	BakeMinutes *int64   `json:"canaryBakeTimeInMinutes,omitempty"` // absent: 10
}

// Linear is equal steps.
type Linear struct {
	StepPercent *float64 `json:"stepPercent,omitempty"`           // absent: 10
	BakeMinutes *int64   `json:"stepBakeTimeInMinutes,omitempty"` // absent: 6
}

// The strategies.
const (
	Rolling     = "ROLLING"    // all endpoints are called alike
	BlueGreen   = "BLUE_GREEN" // everything at once
	CanaryShift = "CANARY"
	LinearShift = "LINEAR"
)

// ECS's bounds: minutes, and percent.
const (
	maxBakeTime  = 1440
	leastStep    = 3
	leastPercent = 0.1
)

// Strategies are what [Deployment.Strategy] may be.
var Strategies = []string{Rolling, BlueGreen, CanaryShift, LinearShift}

// Problems lists everything that is wrong in d; nil has none.
func (d *Deployment) Problems() []Problem {
	c := &checker{}
	c.deployment("", d)
	return c.problems
}

// deployment holds ECS's bounds; at is empty, or ends in a dot.
func (c *checker) deployment(at string, d *Deployment) {
	if d == nil {
		return
	}
	if d.Strategy == "" {
		c.bad(at+"strategy", "is missing; allowed: %s", strings.Join(Strategies, ", "))
	}
	c.oneOf(at+"strategy", d.Strategy, Strategies)
	if p := d.Canary; p != nil {
		c.onlyWith(at+"canaryConfiguration", d.Strategy, CanaryShift)
		c.tenths(at+"canaryConfiguration.canaryPercent", p.Percent, leastPercent)
		c.minutes(at+"canaryConfiguration.canaryBakeTimeInMinutes", p.BakeMinutes)
	}
	if p := d.Linear; p != nil {
		c.onlyWith(at+"linearConfiguration", d.Strategy, LinearShift)
		c.tenths(at+"linearConfiguration.stepPercent", p.StepPercent, leastStep)
		c.minutes(at+"linearConfiguration.stepBakeTimeInMinutes", p.BakeMinutes)
	}
}

func (c *checker) onlyWith(at, strategy, want string) {
	if strategy != want && slices.Contains(Strategies, strategy) {
		c.bad(at, "has no meaning with strategy %s; allowed: with %s", strconv.Quote(strategy), want)
	}
}

func (c *checker) tenths(at string, n *float64, least float64) {
	if n != nil && (!(*n >= least && *n <= 100) || math.Abs(*n*10-math.Round(*n*10)) > 1e-6) {
		c.bad(at, "%v; allowed: %v to 100, in tenths", *n, least)
	}
}

func (c *checker) minutes(at string, n *int64) {
	if n != nil && (*n < 0 || *n > maxBakeTime) {
		c.bad(at, "%d; allowed: 0 to %d minutes", *n, maxBakeTime)
	}
}
