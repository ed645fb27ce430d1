package cost

import (
	"fmt"
	"math/big"
	"strings"

	"berth/internal/options"
)

// comparison is one of the specification's cost tables, and the deployment that it is about.
type comparison struct {
	title       string
	assignments []string          // deploy options
	claims      map[string]string // the specification's figure by row
	total       string
	remarks     map[string]string // on rows whose figure is wrong or needs a word
}

// Markdown writes the specification's two cost tables as they are at the prices of table, each row
// beside the specification's own figure. docs/cost.md and README.md hold the result.
func Markdown(table Table) (string, error) {
	spot, err := spotRemark(table)
	if err != nil {
		return "", err
	}
	const secrets = "two secrets: the API key, and the agent's tokens"
	const backup = "a first copy of all 50 GB; later ones hold changes only"
	var text strings.Builder
	for _, c := range []comparison{
		{
			title:  "Default configuration (2 vCPU, 8 GB)",
			claims: map[string]string{rowFargate: "~$85", rowEFS: "~$15", rowLogs: "~$3", rowSecrets: "~$0.40", rowBackup: "~$2"},
			total:  "~$105",
			remarks: map[string]string{
				rowSecrets: secrets, rowBackup: backup,
				rowLogs: "nearly all of it is ingestion",
			},
		},
		{
			title:       "Optimised configuration (1 vCPU, 4 GB, Spot, logs kept 3 days)",
			assignments: []string{"cpu=1024", "memory=4096", "useFargateSpot=true", "logRetentionDays=3"},
			claims:      map[string]string{rowFargateSpot: "~$35", rowEFS: "~$15", rowLogs: "~$1", rowSecrets: "~$0.40", rowBackup: "~$2"},
			total:       "~$53",
			remarks: map[string]string{
				rowSecrets: secrets, rowBackup: backup, rowFargateSpot: spot,
				rowLogs: "wrong: a shorter retention saves storage, which is cents, and no ingestion",
			},
		},
	} {
		if err := c.write(&text, table); err != nil {
			return "", err
		}
	}
	return text.String(), nil
}

func (c comparison) write(text *strings.Builder, table Table) error {
	parsed, err := options.ParseAssignments(c.assignments)
	if err != nil {
		return err
	}
	estimate, err := New(parsed, DefaultAssumptions(), table)
	if err != nil {
		return err
	}
	command := "berth cost"
	for _, assignment := range c.assignments {
		command += " -c " + assignment
	}
	fmt.Fprintf(text, "### %s\n\n`%s`, %s, prices dated %s to %s:\n\n", c.title, command, estimate.Region,
		estimate.PricesDated, estimate.newest)
	text.WriteString("| Resource | Quantity | Specification | Monthly cost | Remark |\n|---|---|---|---|---|\n")
	for _, row := range estimate.Rows {
		claim, claimed := c.claims[row.Resource]
		remark := c.remarks[row.Resource]
		switch {
		case claimed:
		case row.Monthly > 0:
			claim, remark = "not counted", row.Assumption
		default:
			claim, remark = "", row.Assumption
		}
		fmt.Fprintf(text, "| %s | %s | %s | $%s | %s |\n", row.Resource, row.Quantity, claim, row.Monthly, remark)
	}
	fmt.Fprintf(text, "| **Total** | | **%s** | **$%s** | without model use, which is normally the dominant cost |\n\n",
		c.total, estimate.Total)
	return nil
}

// spotRemark sets the specification's figure for 1 vCPU and 4 GB of Spot right.
func spotRemark(table Table) (string, error) {
	parsed, err := options.ParseAssignments([]string{"cpu=1024", "memory=4096"})
	if err != nil {
		return "", err
	}
	onDemand, err := New(parsed, DefaultAssumptions(), table)
	if err != nil {
		return "", err
	}
	full := onDemand.Rows[0].Monthly
	return fmt.Sprintf("wrong: on demand is $%s, so 60 %% off is $%s; the Spot price floats, and this one was observed on %s",
		full, cents(product(big.NewRat(int64(full), 100), big.NewRat(40, 100))), table.Prices[FargateSpotX86VCPU].AsOf), nil
}
