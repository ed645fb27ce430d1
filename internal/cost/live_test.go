package cost

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/pricing"
)

// priceList is a fake of the Price List Query API at the wire: the JSON protocol, pages of two, and
// products in the form of the real ones. It has the products of one region, with its prefix.
type priceList struct {
	t        *testing.T
	region   string
	products []fakeProduct
	failWith string // an error's code

	requests []string // "service field=value …", in order
}

type fakeProduct struct {
	service, usage string
	steps          string // JSON of the price dimensions, or a price
	region         string // empty: the list's
}

// request is the body of GetProducts.
type request struct {
	ServiceCode string
	Filters     []struct{ Type, Field, Value string }
	NextToken   string
}

func (p *priceList) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if target := r.Header.Get("X-Amz-Target"); target != "AWSPriceListService.GetProducts" {
		p.t.Errorf("X-Amz-Target is %q", target)
	}
	if !strings.Contains(r.Header.Get("Authorization"), "/us-east-1/pricing/aws4_request") {
		p.t.Errorf("the request is not signed for the service: %q", r.Header.Get("Authorization"))
	}
	if p.failWith != "" {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"__type":"com.amazonaws.pricing#%s","message":"User: arn:aws:iam::1:user/x\nis refused"}`, p.failWith)
		return
	}
	var asked request
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		p.t.Error(err)
	}
	region := ""
	line := asked.ServiceCode
	for _, filter := range asked.Filters {
		if filter.Type != "TERM_MATCH" {
			p.t.Errorf("filter type %q", filter.Type)
		}
		if filter.Field == "regionCode" || filter.Field == "fromRegionCode" {
			region = filter.Value
		}
		line += " " + filter.Field + "=" + filter.Value
	}
	p.requests = append(p.requests, line)

	var matching []string
	for i, product := range p.products {
		if product.region == "" {
			product.region = p.region
		}
		if product.service == asked.ServiceCode && product.region == region {
			matching = append(matching, product.document(i))
		}
	}
	p.page(w, matching, asked.NextToken)
}

// page answers with two documents; the token is the number of those already sent.
func (p *priceList) page(w http.ResponseWriter, documents []string, token string) {
	sent := 0
	if token != "" {
		if _, err := fmt.Sscan(token, &sent); err != nil {
			p.t.Error(err)
		}
	}
	answer := struct {
		FormatVersion string
		PriceList     []string
		NextToken     string `json:",omitempty"`
	}{FormatVersion: "aws_v1", PriceList: documents[sent:min(sent+2, len(documents))]}
	if sent+2 < len(documents) {
		answer.NextToken = fmt.Sprint(sent + 2)
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		p.t.Error(err)
	}
}

// document is an entry of PriceList, in the form that the API returns.
func (f fakeProduct) document(i int) string {
	steps := f.steps
	if !strings.HasPrefix(steps, "{") {
		steps = `{"S.J.6YS6EN2CT7":{"unit":"u","beginRange":"0","endRange":"Inf","description":"d","appliesTo":[],"rateCode":"S.J.6YS6EN2CT7","pricePerUnit":{"USD":"` + f.steps + `"}}}`
	}
	return fmt.Sprintf(`{"product":{"productFamily":"Compute","attributes":{"regionCode":%q,"servicecode":%q,"usagetype":%q,"locationType":"AWS Region"},"sku":"SKU%d"},`+
		`"serviceCode":%q,"terms":{"OnDemand":{"SKU%d.JRTCKXETXF":{"priceDimensions":%s,"sku":"SKU%d","effectiveDate":"2026-10-01T00:00:00Z","offerTermCode":"JRTCKXETXF","termAttributes":{}}}},`+
		`"version":"20261105182130","publicationDate":"2026-11-05T18:21:30Z"}`, f.region, f.service, f.usage, i, f.service, i, steps, i)
}

// step is one price dimension.
func step(begin, end, usd string) string {
	return fmt.Sprintf(`"S.J.%s":{"unit":"u","beginRange":%q,"endRange":%q,"pricePerUnit":{"USD":%q}}`, begin, begin, end, usd)
}

// whole has every product that the default configuration needs in eu-central-1, and others beside.
func wholeList(t *testing.T) *priceList {
	return &priceList{t: t, region: "eu-central-1", products: []fakeProduct{
		{service: "AmazonECS", usage: "EUC1-ECS-EC2-GB-Hours", steps: "0.0000000000"},
		{service: "AmazonECS", usage: "EUC1-Fargate-Windows-vCPU-Hours:perCPU", steps: "0.9000000000"},
		{service: "AmazonECS", usage: "EUC1-Fargate-vCPU-Hours:perCPU", steps: "0.0465600000"},
		{service: "AmazonECS", usage: "EUC1-Fargate-GB-Hours", steps: "0.0051100000"},
		{service: "AmazonECS", usage: "EUC1-Fargate-EphemeralStorage-GB-Hours", steps: "0.0001290000"},
		{service: "AmazonEFS", usage: "EUC1-IATimedStorage-ByteHrs", steps: "0.0280000000"},
		{service: "AmazonEFS", usage: "EUC1-TimedStorage-Z-ByteHrs", steps: "0.1900000000"},
		{service: "AmazonEFS", usage: "EUC1-TimedStorage-ByteHrs", steps: "0.3600000000"},
		{service: "AmazonEFS", usage: "EUC1-IADataAccess-Bytes", steps: "0.0120000000"},
		{service: "AmazonEFS", usage: "EUC1-IADataAccess-Bytes", steps: "0.0120000000"},
		{service: "AWSBackup", usage: "EUC1-WarmStorage-ByteHrs-EFS", steps: "0.0600000000"},
		{service: "AWSBackup", usage: "EUC1-WarmStorage-ByteHrs-EFS-LAGV", steps: "0.0700000000"},
		{service: "AmazonCloudWatch", usage: "EUC1-DataProcessing-Bytes", steps: "0.6300000000"},
		{service: "AmazonCloudWatch", usage: "Global-DataProcessing-Bytes", steps: "0.0000000000"},
		{service: "AmazonCloudWatch", usage: "EUC1-TimedStorage-ByteHrs", steps: "0.0324000000"},
		{service: "AmazonCloudWatch", usage: "EUC1-CW:Requests", steps: "0.0000100000"},
		{service: "AmazonCloudWatch", usage: "EUC1-CW:Requests", steps: "0.0000100000"},
		{service: "AmazonCloudWatch", usage: "EUC1-CW:AlarmMonitorUsage", steps: "0.1000000000"},
		{service: "AmazonCloudWatch", usage: "EUC1-CW:MetricMonitorUsage", steps: "{" + step("10000", "250000", "0.1000000000") + "," + step("0", "10000", "0.3000000000") + "}"},
		{service: "AWSSecretsManager", usage: "EUC1-AWSSecretsManager-Secrets", steps: "0.4000000000"},
		{service: "AmazonECR", usage: "EUC1-TimedStorage-ByteHrs", steps: "0.1000000000"},
		{service: "AmazonVPC", usage: "EUC1-PublicIPv4:InUseAddress", steps: "0.0050000000"},
		{service: "AWSDataTransfer", usage: "EUC1-DataTransfer-Out-Bytes", steps: "{" + step("0", "100", "0.0000000000") + "," + step("10240", "51200", "0.0850000000") + "," + step("100", "10240", "0.0900000000") + "}"},
		{service: "AmazonECS", usage: "Fargate-vCPU-Hours:perCPU", steps: "7.0000000000", region: "us-east-1"},
	}}
}

// ask runs Live against the fake for what the default configuration needs.
func (p *priceList) ask(assignments ...string) (Table, error) {
	server := httptest.NewServer(p)
	defer server.Close()
	api := pricing.New(pricing.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
	a := DefaultAssumptions()
	a.EFSInfrequentShare, a.EFSInfrequentGB = 50, 10
	return Live(context.Background(), api, p.region, Needed(parse(p.t, assignments...), a))
}

func TestLivePrices(t *testing.T) {
	list := wholeList(t)
	table, err := list.ask()
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
	list := wholeList(t)
	if _, err := list.ask(); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for _, line := range list.requests {
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
		change      func(*priceList)
		assignments []string
		want        string
	}{
		"access denied": {func(p *priceList) { p.failWith = "AccessDeniedException" }, nil, "allow the action pricing:GetProducts"},
		"throttled":     {func(p *priceList) { p.failWith = "ThrottlingException" }, nil, "wait a minute"},
		"expired":       {func(p *priceList) { p.failWith = "ExpiredTokenException" }, nil, "renew the AWS credentials"},
		"another error": {func(p *priceList) { p.failWith = "InternalErrorException" }, nil, "InternalErrorException: User"},
		"no product": {func(p *priceList) { p.products[2].usage = "EUC1-Fargate-Turbo" }, nil,
			"no product for Fargate vCPU (x86_64) in eu-central-1 (AmazonECS, usage type Fargate-vCPU-Hours:perCPU)"},
		"two products": {func(p *priceList) { p.products[1].usage = "Fargate-vCPU-Hours:perCPU" }, nil,
			"two products for Fargate vCPU (x86_64) in eu-central-1, at $0.90 and $0.04656"},
		"no dollars": {func(p *priceList) { p.products[2].steps = `{"a":{"beginRange":"0","pricePerUnit":{"CNY":"1"}}}` }, nil,
			"no price in US dollars"},
		"no term":          {func(p *priceList) { p.products[2].steps = `{}` }, nil, "no price on demand"},
		"an unknown form":  {func(p *priceList) { p.products[2].steps = `{"a":1}` }, nil, "not in the documented form"},
		"a step's strange": {func(p *priceList) { p.products[2].steps = `{"a":{"beginRange":"Inf","pricePerUnit":{"USD":"1"}}}` }, nil, `a step begins at "Inf"`},
	} {
		t.Run(name, func(t *testing.T) {
			list := wholeList(t)
			test.change(list)
			_, err := list.ask(test.assignments...)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, test.want)
			}
		})
	}
}

// The API has no Spot prices: where the embedded table has none either, the estimate says so.
func TestLiveWithoutSpotPrice(t *testing.T) {
	list := wholeList(t)
	table, err := list.ask("useFargateSpot=true")
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
