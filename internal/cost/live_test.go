package cost

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/pricing"

	"berth/internal/cost/costtest"
)

// askFake runs Live against the fake for what the default configuration needs, and EFS Infrequent Access.
func askFake(t *testing.T, list *costtest.PriceList, assignments ...string) (Table, error) {
	t.Helper()
	server := httptest.NewServer(list)
	defer server.Close()
	api := pricing.New(pricing.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
	a := DefaultAssumptions()
	a.EFSInfrequentShare, a.EFSInfrequentGB = 50, 10
	return Live(t.Context(), api, list.Region, Needed(parse(t, assignments...), a))
}

func TestLivePrices(t *testing.T) {
	list := costtest.Frankfurt()
	table, err := askFake(t, list)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[Key]string{
		FargateX86VCPU: "0.0465600000", FargateX86Memory: "0.0051100000", EFSStandard: "0.3600000000",
		EFSInfrequent: "0.0280000000", EFSInfrequentAccess: "0.0120000000", BackupEFS: "0.0600000000",
		LogsIngestion: "0.6300000000", CustomMetric: "0.3000000000", MetricRequest: "0.0000100000",
		DataOut: "0.0900000000", Dashboard: "3.00",
	} {
		if got := table.Prices[key].USD; got != want {
			t.Errorf("%s costs %s, want %s", key, got, want)
		}
	}
	if got := table.Prices[FargateX86VCPU].AsOf; got != "2026-11-05" {
		t.Errorf("dated %s, want the day of publication", got)
	}
	e, err := New(parse(t), DefaultAssumptions(), table)
	if err != nil {
		t.Fatal(err)
	}
	// 730 x (2 x 0.04656 + 8 x 0.00511) = 97.82
	if row := e.find(t, "ECS Fargate"); row.Monthly != 9782 || !strings.Contains(row.Assumption, "$0.04656 per vCPU-hour") {
		t.Errorf("row %+v", row)
	}
	if !e.Live || e.PricesDated != "2026-08-12" {
		t.Errorf("live %v, dated %s: the embedded price of a dashboard is the oldest", e.Live, e.PricesDated)
	}
	if notes := strings.Join(e.Notes, "\n"); !strings.Contains(notes, "CloudWatch dashboard (2026-08-12)") {
		t.Errorf("the notes do not say what is not live:\n%s", notes)
	}
}

func TestLiveRequests(t *testing.T) {
	list := costtest.Frankfurt()
	if _, err := askFake(t, list); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for _, line := range list.Requests() {
		seen[line]++
	}
	for line, pages := range map[string]int{
		"AmazonECS regionCode=eu-central-1 productFamily=Compute":                                   3,
		"AmazonEFS regionCode=eu-central-1":                                                         3,
		"AmazonCloudWatch regionCode=eu-central-1":                                                  4,
		"AWSDataTransfer fromRegionCode=eu-central-1 toLocation=External transferType=AWS Outbound": 1,
	} {
		if seen[line] != pages {
			t.Errorf("%q was asked %d times, want one request for each of %d pages; all: %v", line, seen[line], pages, seen)
		}
	}
}

func TestLiveFailuresAreOneLine(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*costtest.PriceList)
		want   string
	}{
		"access denied": {func(p *costtest.PriceList) { p.FailWith = "AccessDeniedException" }, "allow the action pricing:GetProducts"},
		"throttled":     {func(p *costtest.PriceList) { p.FailWith = "ThrottlingException" }, "wait a minute"},
		"expired":       {func(p *costtest.PriceList) { p.FailWith = "ExpiredTokenException" }, "renew the AWS credentials"},
		"another error": {func(p *costtest.PriceList) { p.FailWith = "InternalErrorException" }, "InternalErrorException: User"},
		"no product": {
			func(p *costtest.PriceList) { p.Products[2].Usage = "EUC1-Fargate-Turbo" },
			"no product for Fargate vCPU (x86_64) in eu-central-1 (AmazonECS, usage type Fargate-vCPU-Hours:perCPU)",
		},
		"two products": {
			func(p *costtest.PriceList) { p.Products[1].Usage = "Fargate-vCPU-Hours:perCPU" },
			"two products for Fargate vCPU (x86_64) in eu-central-1, at $0.90 and $0.04656",
		},
		"no dollars": {
			func(p *costtest.PriceList) {
				p.Products[2].Price = `{"a":{"beginRange":"0","pricePerUnit":{"CNY":"1"}}}`
			},
			"no price in US dollars",
		},
		"no term":         {func(p *costtest.PriceList) { p.Products[2].Price = `{}` }, "no price on demand"},
		"an unknown form": {func(p *costtest.PriceList) { p.Products[2].Price = `{"a":1}` }, "not in the documented form"},
		"a step that begins nowhere": {func(p *costtest.PriceList) {
			p.Products[2].Price = `{"a":{"beginRange":"Inf","pricePerUnit":{"USD":"1"}}}`
		}, `a step begins at "Inf"`},
	} {
		t.Run(name, func(t *testing.T) {
			list := costtest.Frankfurt()
			test.change(list)
			_, err := askFake(t, list)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, test.want)
			}
		})
	}
}

// The API has no Spot prices: where the embedded table has none either, the estimate says so.
func TestLiveWithoutSpotPrice(t *testing.T) {
	list := costtest.Frankfurt()
	table, err := askFake(t, list, "useFargateSpot=true")
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(parse(t, "useFargateSpot=true"), DefaultAssumptions(), table)
	want := "no price for Fargate Spot vCPU (x86_64), Fargate Spot memory (x86_64) in eu-central-1: neither the AWS Price List API nor the embedded table has one"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestLiveEndpointIsOneOfThree(t *testing.T) {
	for region, want := range map[string]string{
		"us-west-2": "us-east-1", "sa-east-1": "us-east-1", "eu-west-1": "eu-central-1", "ap-northeast-1": "ap-south-1",
	} {
		if got := LiveEndpoint(region); got != want {
			t.Errorf("prices of %s are asked in %s, want %s", region, got, want)
		}
	}
}
