package workspace_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"berth/internal/workspace"
)

// helper has the test's own program be another process of an agent: its value is what that does.
const helper = "WORKSPACE_TEST_HELPER"

func TestMain(m *testing.M) {
	if what := os.Getenv(helper); what != "" {
		if err := help(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	if !asked {
		_ = flag.Set("rapid.checks", "25") // each is a hundred processes of git
	}
	os.Exit(m.Run())
}

// help prepares the place that its arguments name: the directory of mirrors, the repository, the tree and the scratch.
func help(what string) error {
	if what != "prepare" || len(os.Args) < 5 {
		return fmt.Errorf("the helper cannot %q", what)
	}
	m := workspace.NewMirrors(os.Args[1], workspace.MirrorConfig{})
	_, err := m.Prepare(context.Background(), workspace.Place{
		ID: id, Source: workspace.Source{Repo: os.Args[2]}, Branch: "berth/x", Tree: os.Args[3], Scratch: os.Args[4],
	})
	return err
}
