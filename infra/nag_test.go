package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// nagLine is a line of cdk-nag's report: a rule, the path of a construct, and how that fares.
type nagLine struct{ RuleID, ResourceID, Compliance, RuleInfo string }

var exceptionRow = regexp.MustCompile(`(?m)^\| (AwsSolutions-\S+) \| (\S+) \| (.+) \|$`)

// Every finding of cdk-nag's AwsSolutions pack has a row in docs/exceptions.md with a reason, and every
// row a finding.
func TestNagFindingsAreTheDocumentedExceptions(t *testing.T) {
	page, err := os.ReadFile("../docs/exceptions.md")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, row := range exceptionRow.FindAllStringSubmatch(string(page), -1) {
		used[row[1]+" "+row[2]] = false
	}
	for name, made := range templates {
		compliant := 0
		for _, line := range made.nag.Lines {
			switch line.Compliance {
			case "Compliant":
				compliant++
			case "Non-Compliant":
				where := strings.TrimSuffix(strings.TrimPrefix(line.ResourceID, made.options.Names().Stack()+"/"), "/Resource")
				if _, documented := used[line.RuleID+" "+where]; !documented {
					t.Errorf("variant %s: %s on %s: %s Mend it, or give the reason in docs/exceptions.md", name, line.RuleID, where, line.RuleInfo)
				}
				used[line.RuleID+" "+where] = true
			default: // a rule that could not be evaluated has found nothing, and cleared nothing
				t.Errorf("variant %s: %s on %s is %q", name, line.RuleID, line.ResourceID, line.Compliance)
			}
		}
		if compliant < 10 {
			t.Errorf("variant %s: cdk-nag passed only %d rules: did it run?", name, compliant)
		}
	}
	for exception, found := range used {
		if !found {
			t.Errorf("docs/exceptions.md has a row for %s, which nothing finds any more", exception)
		}
	}
}
