// Package options reads and checks the deploy options: the context values that `cdk … -c key=value`
// and `berth cost -c key=value` take. The stack, the price estimate and the command read the same
// ones, and the documentation's table is generated from Table.
package options

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"berth/internal/contract"
)

// Options is a complete, checked set of deploy options.
type Options struct {
	ProjectName         string
	Environment         string
	CPU                 int // units; 1024 make one vCPU
	MemoryMiB           int
	UseFargateSpot      bool
	LogRetentionDays    int // 0: for ever
	Architecture        Architecture
	VpcID               string   // VpcDefault, VpcNew or an id
	AvailabilityZones   []string // empty: the first of the VPC
	AlertEmail          string   // empty: nobody is subscribed
	FileSystemID        string   // empty: the stack makes its own
	SpendLimitUSD       float64
	EphemeralStorageGiB int
	MaxSessions         int
	AnthropicBaseURL    string

	// Set are the values that are not their options' defaults, by name, but for the two that name the deployment. The stack
	// records them.
	Set map[string]string
}

// Architecture of the task and so of its image, as ECS names it in lower case.
type Architecture string

// The architectures that Fargate runs Linux tasks on.
const (
	ARM64 Architecture = "arm64"
	X8664 Architecture = "x86_64"
)

// Values of the option vpcId that are not an id.
const (
	VpcDefault = "default"
	VpcNew     = "new"
)

// Names derives the deployment's resource names.
func (o Options) Names() contract.Names {
	return contract.Names{Project: o.ProjectName, Environment: o.Environment}
}

// Production reports whether the deployment's data is to outlive its stack.
func (o Options) Production() bool { return o.Environment == contract.Production }

// Error says which option has which value, and what it may have. It fits on one line.
type Error struct{ Option, Value, Allowed string }

func (e *Error) Error() string {
	return fmt.Sprintf("option %s: %s is not allowed; use %s", e.Option, quote(e.Value), e.Allowed)
}

// byDefault is the value of every option, but of the project's name, that stands for its default.
const byDefault = "default"

// Parse checks values, fills in the defaults of those that are not named, and returns the options.
//
// The error joins one *Error for each bad option, so that all of them are seen at once.
func Parse(values map[string]string) (Options, error) {
	parsed, err := parseEach(values)
	if err == nil {
		err = errors.Join(checkFargatePair(parsed), checkZones(parsed), checkNames(parsed.Names()))
	}
	if err != nil {
		return Options{}, err
	}
	return parsed, nil
}

// Check checks each value for itself, as far as that goes without those that are to be added from elsewhere.
func Check(values map[string]string) error {
	_, err := parseEach(values)
	return err
}

func parseEach(values map[string]string) (parsed Options, err error) {
	var errs []error
	for _, option := range Table {
		value, given := values[option.Name]
		if !given || value == byDefault && option.Name != "projectName" {
			value = option.Default
		}
		if value == "" && (!given || values[option.Name] == byDefault) {
			continue
		}
		if !option.set(&parsed, value) {
			errs = append(errs, &Error{option.Name, value, option.Allowed})
		}
		if value != option.Default && option.Name != "projectName" && option.Name != "environment" {
			if parsed.Set == nil {
				parsed.Set = map[string]string{}
			}
			parsed.Set[option.Name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !Known(name) {
			errs = append(errs, fmt.Errorf("unknown option %s; the options are %s", quote(name), strings.Join(names(), ", ")))
		}
	}
	return parsed, errors.Join(errs...)
}

// ParseAssignments parses values written as "key=value", as the command line has them. Of two for the
// same option the last one counts, as with the CDK CLI.
func ParseAssignments(assignments []string) (Options, error) {
	values, err := Assignments(assignments)
	if err != nil {
		return Options{}, err
	}
	return Parse(values)
}

// Assignments takes "key=value" apart, without a look at the values.
func Assignments(assignments []string) (map[string]string, error) {
	values := make(map[string]string, len(assignments))
	var errs []error
	for _, assignment := range assignments {
		name, value, found := strings.Cut(assignment, "=")
		if !found || name == "" {
			errs = append(errs, fmt.Errorf("option %s is not of the form key=value, such as cpu=4096", quote(assignment)))
		}
		values[name] = value
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return values, nil
}

// cdkOwn are the keys that the CDK CLI keeps in a context for itself: cdk acknowledge and cdk
// cli-telemetry write them.
var cdkOwn = []string{"acknowledged-issue-numbers", "cli-telemetry"}

// FromContext takes the options out of a CDK context, which also carries the CDK's own settings: feature
// flags and cached look-ups, whose keys hold a colon or a slash as no option's name does, and cdkOwn.
//
// Values from cdk.json may be JSON numbers and booleans; those given with -c are strings.
func FromContext(context map[string]any) (Options, error) {
	values := make(map[string]string)
	for name, value := range context {
		if strings.ContainsAny(name, ":/") || slices.Contains(cdkOwn, name) {
			continue
		}
		switch value := value.(type) {
		case string:
			values[name] = value
		case bool:
			values[name] = strconv.FormatBool(value)
		case float64:
			values[name] = strconv.FormatFloat(value, 'f', -1, 64)
		default:
			if !Known(name) {
				values[name] = "" // Parse says so
				continue
			}
			return Options{}, fmt.Errorf("option %s: null, a list or an object is not allowed; use a string, a number or a boolean", name)
		}
	}
	return Parse(values)
}

// Known reports whether there is an option of that name.
func Known(name string) bool { return slices.Contains(names(), name) }

func names() []string {
	all := make([]string, len(Table))
	for i, option := range Table {
		all[i] = option.Name
	}
	return all
}

// checkNames finds the name made from the two that its service would refuse for its length.
func checkNames(made contract.Names) error {
	over, worst := 0, contract.NameLimit{}
	for _, limit := range made.Limits() {
		if n := len(limit.Name) - limit.Max; n > over {
			over, worst = n, limit
		}
	}
	if over == 0 {
		return nil
	}
	return &Error{"projectName", made.Project, fmt.Sprintf(
		"at most %d characters with environment %s: the %s would be called %s, and takes %d",
		len(made.Project)-over, made.Environment, worst.Resource, quote(worst.Name), worst.Max)}
}

// quote shows a value on one line whatever is in it, cut short where it is long, and without the password of an address.
func quote(value string) string {
	const most = 80
	if scheme, rest, found := strings.Cut(value, "://"); found {
		if at := strings.LastIndex(rest, "@"); at >= 0 {
			value = scheme + "://…" + rest[at:]
		}
	}
	if len(value) > most {
		value = value[:most] + "…"
	}
	return strconv.Quote(value)
}
