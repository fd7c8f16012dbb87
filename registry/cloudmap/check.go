// Package cloudmap is the API of AWS Cloud Map in Go: the shapes of its 30
// operations as awsJson1_1 carries them, the constraints on each member, and
// its errors. Source of every constraint: the public API model 2017-03-14 of
// servicediscovery.
//
// It owns what can be said without knowing any state. It must not know how
// requests arrive nor what is stored.
//
// Start reading at [Problems], then namespaces.go, services.go, instances.go.
package cloudmap

import (
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Problems collects everything that is wrong with one request, so that the
// caller hears of all of it at once. The zero value is ready.
type Problems struct{ list []string }

// Add records one problem in free words.
func (p *Problems) Add(format string, args ...any) {
	p.list = append(p.list, fmt.Sprintf(format, args...))
}

// Err is nil if there were no problems, otherwise an InvalidInput that lists
// them in AWS's form.
func (p *Problems) Err() error {
	switch n := len(p.list); n {
	case 0:
		return nil
	case 1:
		return InvalidInput("1 validation error detected: %s", p.list[0])
	default:
		return InvalidInput("%d validation errors detected: %s", n, strings.Join(p.list, "; "))
	}
}

func (p *Problems) fails(at, value, constraint string) {
	if r := []rune(value); len(r) > 100 {
		value = string(r[:100]) + "..."
	}
	p.Add("Value '%s' at '%s' failed to satisfy constraint: %s", value, at, constraint)
}

func (p *Problems) null(at string) {
	p.Add("Value null at '%s' failed to satisfy constraint: Member must not be null", at)
}

// rule is the constraint on a string. Lengths are in characters.
type rule struct {
	max     int
	pattern *regexp.Regexp
	notARN  bool
}

var (
	printable = regexp.MustCompile(`^[!-~]+$`)

	resourceID   = rule{max: 64}
	idOrARN      = rule{max: 255}
	resourceARN  = rule{max: 1011}
	description  = rule{max: 1024}
	instanceID   = rule{max: 64, pattern: regexp.MustCompile(`^[0-9a-zA-Z_/:.@-]+$`)}
	attrKey      = rule{max: 255, pattern: printable}
	attrValue    = rule{max: 1024, pattern: regexp.MustCompile(`^([!-~][ \t!-~]*)?$`)}
	svcAttrKey   = rule{max: 255}
	svcAttrValue = rule{max: 1024}
	httpName     = rule{max: 1024, pattern: printable, notARN: true}
	anyName      = rule{max: 1024, pattern: printable}
	privateName  = rule{max: 253, pattern: printable, notARN: true}
	publicName   = rule{max: 253, pattern: regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z0-9]([a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?$`)}
	serviceName  = rule{max: 127, pattern: regexp.MustCompile(`^(([a-zA-Z0-9_][a-zA-Z0-9\-_]{0,61}[a-zA-Z0-9_]|[a-zA-Z0-9])(\.([a-zA-Z0-9_][a-zA-Z0-9\-_]{0,61}[a-zA-Z0-9_]|[a-zA-Z0-9]))*|\.)$`)}
	accountID    = rule{max: 12, pattern: regexp.MustCompile(`^.{12}$`)}
	operationID  = rule{max: 255}
	nextToken    = rule{max: 4096}
	filterValue  = rule{max: 255}
	resourcePath = rule{max: 255}
	tagValue     = rule{max: 256}
	tagKey       = rule{max: 128}
)

// required checks a string that must be there; "" counts as missing.
func (p *Problems) required(at, value string, r rule) {
	if value == "" {
		p.null(at)
		return
	}
	p.text(at, value, r)
}

// optional checks a string that may be absent, which is "".
func (p *Problems) optional(at, value string, r rule) {
	if value != "" {
		p.text(at, value, r)
	}
}

func (p *Problems) text(at, value string, r rule) {
	if utf8.RuneCountInString(value) > r.max {
		p.fails(at, value, fmt.Sprintf("Member must have length less than or equal to %d", r.max))
	}
	if r.pattern != nil && !r.pattern.MatchString(value) {
		p.fails(at, value, "Member must satisfy regular expression pattern: "+r.pattern.String())
	}
	if r.notARN && strings.HasPrefix(value, "arn:") {
		p.fails(at, value, "Member must not start with arn:")
	}
}

func (p *Problems) enum(at, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		p.fails(at, value, "Member must satisfy enum value set: ["+strings.Join(allowed, ", ")+"]")
	}
}

func (p *Problems) within(at string, v *int64, low, high int64) {
	switch {
	case v == nil:
	case *v < low:
		p.fails(at, fmt.Sprint(*v), fmt.Sprintf("Member must have value greater than or equal to %d", low))
	case *v > high:
		p.fails(at, fmt.Sprint(*v), fmt.Sprintf("Member must have value less than or equal to %d", high))
	}
}

func (p *Problems) size(at string, n, low, high int) {
	if n < low {
		p.Add("Value at '%s' failed to satisfy constraint: Member must have length greater than or equal to %d", at, low)
	}
	if n > high {
		p.Add("Value at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", at, high)
	}
}

// pairs checks a map's keys and values, in the order of the keys.
func (p *Problems) pairs(at string, m map[string]string, key, value rule) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		p.required(at+".key", k, key)
		p.text(at+"."+k, m[k], value)
	}
}

// Page is what the paged requests have in common. Any number of pages covers
// every item that existed all the time exactly once.
type Page struct {
	NextToken  string
	MaxResults *int64
}

// Limit is how many items a page takes: MaxResults, or 100.
func (p Page) Limit() int {
	if p.MaxResults == nil {
		return 100
	}
	return int(*p.MaxResults)
}

// After is the key after which the page starts.
func (p Page) After() (string, error) {
	if p.NextToken == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(p.NextToken)
	key, ok := strings.CutPrefix(string(b), tokenForm)
	if err != nil || !ok {
		return "", InvalidInput("The NextToken is not one that this registry gave.")
	}
	return key, nil
}

// NextToken is that of a page that ends with this key.
func NextToken(last string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(tokenForm + last))
}

const tokenForm = "1"

func (p Page) check(q *Problems) {
	q.optional("nextToken", p.NextToken, nextToken)
	q.within("maxResults", p.MaxResults, 1, 100)
}

// Filter is one of a list's filters; an item must match all of them.
type Filter struct {
	Name      string
	Values    []string
	Condition string
}

// Match holds an item's fields against filters; it must match all of them.
func Match(filters []Filter, field func(name string) string) bool {
	for _, f := range filters {
		v, ok := field(f.Name), false
		switch f.Condition {
		case "BEGINS_WITH":
			ok = strings.HasPrefix(v, f.Values[0])
		case "BETWEEN":
			ok = f.between(v)
		default: // EQ and IN
			ok = slices.Contains(f.Values, v)
		}
		if !ok {
			return false
		}
	}
	return true
}

// between reports whether a date in epoch seconds lies within a BETWEEN, both
// ends included.
func (f Filter) between(date string) bool {
	var n [3]float64
	for i, v := range []string{f.Values[0], date, f.Values[1]} {
		n[i], _ = strconv.ParseFloat(v, 64) // Check has looked at them
	}
	return n[0] <= n[1] && n[1] <= n[2]
}

// checkOwners looks at the values of filters by owner.
func checkOwners(p *Problems, filters []Filter) {
	for i, f := range filters {
		if f.Name != "RESOURCE_OWNER" {
			continue
		}
		for j, v := range f.Values {
			p.enum(fmt.Sprintf("filters.%d.member.values.%d.member", i+1, j+1), v, "SELF", "OTHER_ACCOUNTS")
		}
	}
}

// conditions says which conditions each filter of an operation may have.
type conditions map[string][]string

func checkFilters(p *Problems, filters []Filter, c conditions) {
	names := slices.Sorted(maps.Keys(c))
	for i := range filters {
		f := &filters[i]
		at := fmt.Sprintf("filters.%d.member", i+1)
		p.enum(at+".name", f.Name, names...)
		if f.Condition == "" {
			f.Condition = "EQ"
			if f.Name == "UPDATE_DATE" {
				f.Condition = "BETWEEN"
			}
		}
		if allowed := c[f.Name]; allowed != nil {
			p.enum(at+".condition", f.Condition, allowed...)
		}
		for j, v := range f.Values {
			p.required(fmt.Sprintf("%s.values.%d.member", at, j+1), v, filterValue)
		}
		switch n := len(f.Values); {
		case n == 0:
			p.null(at + ".values")
		case f.Condition == "BETWEEN" && n != 2:
			p.Add("Value at '%s.values' failed to satisfy constraint: condition BETWEEN takes a start and an end", at)
		case (f.Condition == "EQ" || f.Condition == "BEGINS_WITH") && n != 1:
			p.Add("Value at '%s.values' failed to satisfy constraint: condition %s takes one value", at, f.Condition)
		}
	}
}
