package cost

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"berth/internal/options"
)

// parse turns "key=value" assignments into options that must be good.
func parse(t testing.TB, assignments ...string) options.Options {
	t.Helper()
	o, err := options.ParseAssignments(assignments)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func home(t testing.TB) Table {
	t.Helper()
	table, err := Load(HomeRegion)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func estimate(t testing.TB, a Assumptions, assignments ...string) Estimate {
	t.Helper()
	e, err := New(parse(t, assignments...), a, home(t))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (e Estimate) find(t testing.TB, resource string) Row {
	t.Helper()
	for _, row := range e.Rows {
		if row.Resource == resource {
			return row
		}
	}
	t.Fatalf("no row %q", resource)
	return Row{}
}

// The figures were computed by hand from the prices in us-east-1.json.
func TestRowsAgainstHandComputedFigures(t *testing.T) {
	gb := func(f float64) *float64 { return &f }
	with := func(change func(*Assumptions)) Assumptions {
		a := DefaultAssumptions()
		change(&a)
		return a
	}
	unchanged := DefaultAssumptions()
	for _, test := range []struct {
		name        string
		assignments []string
		assumptions Assumptions
		resource    string
		want        USD
	}{
		{"730 x (2 x 0.04048 + 8 x 0.004445)", nil, unchanged, "ECS Fargate", 8506},
		{"730 x (1 x 0.04048 + 4 x 0.004445)", []string{"cpu=1024", "memory=4096"}, unchanged, "ECS Fargate", 4253},
		{"730 x (0.25 x 0.04048 + 0.5 x 0.004445)", []string{"cpu=256", "memory=512"}, unchanged, "ECS Fargate", 901},
		{"730 x (2 x 0.03238 + 8 x 0.00356)", []string{"architecture=arm64"}, unchanged, "ECS Fargate", 6807},
		{"730 x (1 x 0.01288871 + 4 x 0.00141527)", []string{"cpu=1024", "memory=4096", "useFargateSpot=true"}, unchanged, "ECS Fargate Spot", 1354},
		{"730 x (1 x 0.01030969 + 4 x 0.00113349)", []string{"cpu=1024", "memory=4096", "useFargateSpot=true", "architecture=arm64"}, unchanged, "ECS Fargate Spot", 1084},
		{"100 x (2 x 0.04048 + 8 x 0.004445)", nil, with(func(a *Assumptions) { a.Hours = 100 }), "ECS Fargate", 1165},
		{"20 GB are included", nil, unchanged, "Ephemeral storage", 0},
		{"730 x 80 x 0.000111", []string{"ephemeralStorageGiB=100"}, unchanged, "Ephemeral storage", 648},
		{"730 x 0.005", nil, unchanged, "Public IPv4 address", 365},
		{"1 x 730 x 0.005", []string{"vpcId=vpc-0123456789abcdef0"}, unchanged, "Public IPv4 address", 365},
		{"private subnets", []string{"vpcId=vpc-0123456789abcdef0"}, with(func(a *Assumptions) { a.PublicIPs = 0 }), "Public IPv4 address", 0},
		{"50 x 0.30", nil, unchanged, "EFS", 1500},
		{"20 x 0.30", nil, with(func(a *Assumptions) { a.EFSInfrequentShare = 60 }), "EFS", 600},
		{"30 x 0.025", nil, with(func(a *Assumptions) { a.EFSInfrequentShare = 60 }), "EFS Infrequent Access", 75},
		{"7 x 0.01", nil, with(func(a *Assumptions) { a.EFSInfrequentGB = 7 }), "EFS Infrequent Access transfer", 7},
		{"50 x 0.05", nil, unchanged, "Backup", 250},
		{"as much as on the file system", nil, with(func(a *Assumptions) { a.EFSGB = 80 }), "Backup", 400},
		{"40 x 0.05", nil, with(func(a *Assumptions) { a.BackupGB = gb(40) }), "Backup", 200},
		{"5 x 0.50 + 5 x 7 x 24 / 730 x 0.03", nil, unchanged, "CloudWatch Logs", 253},
		{"5 x 0.50 + 5 x 3 x 24 / 730 x 0.03", []string{"logRetentionDays=3"}, unchanged, "CloudWatch Logs", 251},
		{"5 x 0.50 + 5 x 12 x 0.03", []string{"logRetentionDays=never"}, unchanged, "CloudWatch Logs", 430},
		{"38 x 0.30 + 0.2 x 0.50", nil, unchanged, "Container Insights", 1150},
		{"11 x 0.30", nil, unchanged, "Custom metrics", 330},
		{"11 x 0.30 x 365 / 730", nil, with(func(a *Assumptions) { a.Hours = 365 }), "Custom metrics", 165},
		{"43800 x 0.00001", nil, unchanged, "Metric requests", 44},
		{"13 x 0.10", nil, unchanged, "Alarms", 130},
		{"14 x 0.10", []string{"spendLimitUSD=100"}, unchanged, "Alarms", 140},
		{"one", nil, unchanged, "Dashboard", 300},
		{"2 x 0.40", nil, unchanged, "Secrets Manager", 80},
		{"2.5 x 0.10", nil, unchanged, "ECR", 25},
		{"within the free 100 GB", nil, with(func(a *Assumptions) { a.DataOutGB = 100 }), "Data transfer out", 0},
		{"150 x 0.09", nil, with(func(a *Assumptions) { a.DataOutGB = 250 }), "Data transfer out", 1350},
		{"no session", nil, unchanged, "Model use (Anthropic)", 0},
		{"20 x 730 / 24 x 0.75", nil, with(func(a *Assumptions) { a.SessionsPerDay, a.CostPerSession = 20, 0.75 }), "Model use (Anthropic)", 45625},
	} {
		t.Run(test.resource+": "+test.name, func(t *testing.T) {
			got := estimate(t, test.assumptions, test.assignments...).find(t, test.resource).Monthly
			if got != test.want {
				t.Errorf("got $%s, want $%s", got, test.want)
			}
		})
	}
}

func TestEstimateStates(t *testing.T) {
	e := estimate(t, DefaultAssumptions())
	if e.PricesDated != "2026-06-13" || e.newest != "2026-11-22" {
		t.Errorf("prices dated %s to %s, want the oldest and the newest that were used", e.PricesDated, e.newest)
	}
	if got := *e.Assumptions.BackupGB; got != 50 {
		t.Errorf("backup_gb is %v, want what was computed with, 50", got)
	}
	model := e.find(t, "Model use (Anthropic)")
	if !strings.Contains(model.Assumption, "normally the dominant cost") {
		t.Errorf("the model's row says %q", model.Assumption)
	}
	spot := estimate(t, DefaultAssumptions(), "useFargateSpot=true")
	if notes := strings.Join(spot.Notes, "\n"); !strings.Contains(notes, "Spot prices float: these were observed on 2026-09-28") {
		t.Errorf("notes do not say that the Spot price floats:\n%s", notes)
	}
	own := estimate(t, DefaultAssumptions(), "vpcId=vpc-0123456789abcdef0")
	if address := own.find(t, "Public IPv4 address"); !strings.Contains(address.Assumption, "--public-ips 0 where") {
		t.Errorf("the address's row says %q", address.Assumption)
	}
}

func TestUnpricedRowsAreNamed(t *testing.T) {
	table, err := Load("eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(parse(t), DefaultAssumptions(), table)
	var unpriced *UnpricedError
	if !errors.As(err, &unpriced) {
		t.Fatalf("got %v, want an UnpricedError", err)
	}
	message := err.Error()
	for _, part := range []string{"eu-west-1", "EFS Standard storage", "public IPv4 address", "--live"} {
		if !strings.Contains(message, part) {
			t.Errorf("%q does not name %q", message, part)
		}
	}
	if strings.Contains(message, "Fargate vCPU") || strings.Contains(message, "\n") {
		t.Errorf("%q names what is priced, or has several lines", message)
	}
}

func TestAssumptionsOutOfRange(t *testing.T) {
	zero := 0.0
	nan := zero / zero
	for name, test := range map[string]struct {
		change func(*Assumptions)
		want   string
	}{
		"more hours than a month": {func(a *Assumptions) { a.Hours = 731 }, "--hours: 731 is not allowed; use a number from 0 to 730"},
		"too fine":                {func(a *Assumptions) { a.Hours = 1e-300 }, "--hours: 1e-300 is not allowed; use at most four decimals"},
		"too much to write out":   {func(a *Assumptions) { a.EFSGB = 1e300 }, "--efs-gb: 1e+300 is not allowed; use a number from 0 to 1000000"},
		"a second address":        {func(a *Assumptions) { a.PublicIPs = 2 }, "--public-ips: 2 is not allowed; use a number from 0 to 1"},
		"negative":                {func(a *Assumptions) { a.EFSGB = -1 }, "--efs-gb: -1 is not allowed"},
		"not a number":            {func(a *Assumptions) { a.LogsGB = nan }, "--logs-gb: NaN is not allowed"},
		"a share above all":       {func(a *Assumptions) { a.EFSInfrequentShare = 101 }, "--efs-infrequent-percent: 101 is not allowed"},
		"beyond the price's step": {func(a *Assumptions) { a.DataOutGB = 20000 }, "--data-out-gb: 20000 is not allowed; use a number from 0 to 10240"},
		"sessions without cost":   {func(a *Assumptions) { a.SessionsPerDay = 3 }, "go together"},
		"cost without sessions":   {func(a *Assumptions) { a.CostPerSession = 3 }, "go together"},
		"backup":                  {func(a *Assumptions) { b := -2.0; a.BackupGB = &b }, "--backup-gb: -2 is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			a := DefaultAssumptions()
			test.change(&a)
			_, err := New(parse(t), a, home(t))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestFlagDefaultsAreTheDefaultAssumptions(t *testing.T) {
	defaults := reflect.ValueOf(DefaultAssumptions())
	for i := range defaults.NumField() {
		field := defaults.Type().Field(i)
		if field.Tag.Get("help") == "" || field.Tag.Get("name") == "" {
			t.Errorf("%s has no flag or no help", field.Name)
		}
		value := defaults.Field(i)
		if value.Kind() == reflect.Pointer {
			continue // without a default
		}
		if written := fmt.Sprint(value); written != field.Tag.Get("default") {
			t.Errorf("%s: the flag's default is %s, DefaultAssumptions has %s", field.Name, field.Tag.Get("default"), written)
		}
	}
}

func TestJSONKeys(t *testing.T) {
	data, err := json.Marshal(estimate(t, DefaultAssumptions()))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Region      string `json:"region"`
		PricesDated string `json:"prices_dated"`
		Rows        []map[string]any
		Total       json.Number `json:"total_usd"`
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Region != "us-east-1" || got.PricesDated != "2026-06-13" || got.Total != "129.33" {
		t.Errorf("region %s, dated %s, total %s", got.Region, got.PricesDated, got.Total)
	}
	for _, row := range got.Rows {
		for _, key := range []string{"resource", "quantity", "assumption", "monthly_usd"} {
			if _, found := row[key]; !found || len(row) != 4 {
				t.Errorf("row %v: its keys are not the four documented ones", row)
			}
		}
	}
}

func TestUSDWritesDollars(t *testing.T) {
	for amount, want := range map[USD]string{0: "0.00", 5: "0.05", 8506: "85.06", -50: "-0.50", 100000: "1000.00"} {
		if got := amount.String(); got != want {
			t.Errorf("USD(%d) is %q, want %q", int64(amount), got, want)
		}
	}
}

func TestNoAddressNeedsNoPrice(t *testing.T) {
	none := DefaultAssumptions()
	none.PublicIPs = 0
	if slices.Contains(Needed(parse(t), none), PublicIPv4) {
		t.Error("the price of an address is asked for, and none is counted")
	}
}
