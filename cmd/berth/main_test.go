package main

import (
	"net/http/httptest"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"berth/internal/cost/costtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"berth": main})
}

// The scripts run the command's real main as a process of its own. PRICE_LIST is the address of a fake
// AWS Price List API, which has the prices of eu-central-1; PRICE_LIST_DENIED refuses every request.
func TestScripts(t *testing.T) {
	serve := func(list *costtest.PriceList) string {
		server := httptest.NewServer(list)
		t.Cleanup(server.Close)
		return server.URL
	}
	denied := costtest.Frankfurt()
	denied.FailWith = "AccessDeniedException"
	open, closed := serve(costtest.Frankfurt()), serve(denied)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PRICE_LIST", open)
			env.Setenv("PRICE_LIST_DENIED", closed)
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true") // else the SDK looks for an instance's role
			return nil
		},
	})
}
