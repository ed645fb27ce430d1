package ops

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestExitCode(t *testing.T) {
	usage := &UsageError{errors.New("bad flag")}
	for name, test := range map[string]struct {
		err  error
		want int
	}{
		"success":             {nil, ExitOK},
		"failure":             {errors.New("no"), ExitFailed},
		"usage":               {usage, ExitUsage},
		"usage, wrapped":      {fmt.Errorf("cost: %w", usage), ExitUsage},
		"usage, among others": {errors.Join(errors.New("no"), usage), ExitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ExitCode(test.err); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

func TestLines(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	for name, test := range map[string]struct {
		err  error
		want []string
	}{
		"one":                     {one, []string{"one"}},
		"joined":                  {errors.Join(one, two), []string{"one", "two"}},
		"joined in a usage error": {&UsageError{errors.Join(one, errors.Join(two, one))}, []string{"one", "two", "one"}},
		"a cause of two lines":    {errors.New("failed:\n\tbecause\n"), []string{"failed: because"}},
		"wrapping two":            {fmt.Errorf("%w, and before it %w", one, two), []string{"one, and before it two"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Lines(test.err); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestChooseRegion(t *testing.T) {
	for name, test := range map[string]struct {
		flag        string
		environment map[string]string
		want        string
	}{
		"nothing":             {"", nil, "us-east-1"},
		"flag":                {"eu-west-1", map[string]string{"AWS_REGION": "us-west-2"}, "eu-west-1"},
		"AWS_REGION":          {"", map[string]string{"AWS_REGION": "us-west-2", "AWS_DEFAULT_REGION": "eu-west-1"}, "us-west-2"},
		"AWS_DEFAULT_REGION":  {"", map[string]string{"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"},
		"an unknown one":      {"us-east-9", nil, ""},
		"one of another kind": {"us-east-1a", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := chooseRegion(test.flag, func(name string) string { return test.environment[name] }, "us-east-1")
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
}
