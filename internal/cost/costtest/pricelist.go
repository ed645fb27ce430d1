// Package costtest has a fake of the AWS Price List Query API for tests.
package costtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// pageSize is small, so that the tests go through several pages.
const pageSize = 2

// PriceList answers GetProducts at the wire: the JSON protocol, page by page, with products in the
// form of the real ones. A request that the real API would not understand gets a ValidationException.
type PriceList struct {
	Region   string
	Products []Product
	FailWith string // the code of an error to answer every request with; empty: none

	mu    sync.Mutex
	lines []string
}

// Product is an entry of the list.
type Product struct {
	Service, Usage string
	Price          string // dollars, or the JSON of priceDimensions
	Region         string // empty: the list's
}

// Step is one of several price dimensions; join them with commas between braces for Product.Price.
func Step(begin, end, usd string) string {
	return fmt.Sprintf(`"S.J.%s":{"unit":"u","beginRange":%q,"endRange":%q,"pricePerUnit":{"USD":%q}}`, begin, begin, end, usd)
}

// Frankfurt lists every product that the default configuration takes in eu-central-1, and others that
// resemble them. The figures are made up, but of the right size.
func Frankfurt() *PriceList {
	return &PriceList{Region: "eu-central-1", Products: []Product{
		{Service: "AmazonECS", Usage: "EUC1-ECS-EC2-GB-Hours", Price: "0.0000000000"},
		{Service: "AmazonECS", Usage: "EUC1-Fargate-Windows-vCPU-Hours:perCPU", Price: "0.9000000000"},
		{Service: "AmazonECS", Usage: "EUC1-Fargate-vCPU-Hours:perCPU", Price: "0.0465600000"},
		{Service: "AmazonECS", Usage: "EUC1-Fargate-GB-Hours", Price: "0.0051100000"},
		{Service: "AmazonECS", Usage: "EUC1-Fargate-EphemeralStorage-GB-Hours", Price: "0.0001290000"},
		{Service: "AmazonEFS", Usage: "EUC1-IATimedStorage-ByteHrs", Price: "0.0280000000"},
		{Service: "AmazonEFS", Usage: "EUC1-TimedStorage-Z-ByteHrs", Price: "0.1900000000"},
		{Service: "AmazonEFS", Usage: "EUC1-TimedStorage-ByteHrs", Price: "0.3600000000"},
		{Service: "AmazonEFS", Usage: "EUC1-IADataAccess-Bytes", Price: "0.0120000000"},
		{Service: "AmazonEFS", Usage: "EUC1-IADataAccess-Bytes", Price: "0.0120000000"},
		{Service: "AWSBackup", Usage: "EUC1-WarmStorage-ByteHrs-EFS", Price: "0.0600000000"},
		{Service: "AWSBackup", Usage: "EUC1-WarmStorage-ByteHrs-EFS-LAGV", Price: "0.0700000000"},
		{Service: "AmazonCloudWatch", Usage: "EUC1-DataProcessing-Bytes", Price: "0.6300000000"},
		{Service: "AmazonCloudWatch", Usage: "Global-DataProcessing-Bytes", Price: "0.0000000000"},
		{Service: "AmazonCloudWatch", Usage: "EUC1-TimedStorage-ByteHrs", Price: "0.0324000000"},
		{Service: "AmazonCloudWatch", Usage: "EUC1-CW:Requests", Price: "0.0000100000"},
		{Service: "AmazonCloudWatch", Usage: "EUC1-CW:Requests", Price: "0.0000100000"},
		{Service: "AmazonCloudWatch", Usage: "EUC1-CW:AlarmMonitorUsage", Price: "0.1000000000"},
		{
			Service: "AmazonCloudWatch", Usage: "EUC1-CW:MetricMonitorUsage",
			Price: "{" + Step("10000", "250000", "0.1000000000") + "," + Step("0", "10000", "0.3000000000") + "}",
		},
		{Service: "AWSSecretsManager", Usage: "EUC1-AWSSecretsManager-Secrets", Price: "0.4000000000"},
		{Service: "AmazonECR", Usage: "EUC1-TimedStorage-ByteHrs", Price: "0.1000000000"},
		{Service: "AmazonVPC", Usage: "EUC1-PublicIPv4:InUseAddress", Price: "0.0050000000"},
		{Service: "AWSDataTransfer", Usage: "EUC1-DataTransfer-Out-Bytes", Price: "{" + Step("0", "100", "0.0000000000") + "," +
			Step("10240", "51200", "0.0850000000") + "," + Step("100", "10240", "0.0900000000") + "}"},
		{Service: "AmazonECS", Usage: "Fargate-vCPU-Hours:perCPU", Price: "7.0000000000", Region: "us-east-1"},
	}}
}

// Requests lists what was asked, one "service field=value …" for each page.
func (p *PriceList) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.lines...)
}

func (p *PriceList) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if p.FailWith != "" {
		fail(w, p.FailWith, "User: arn:aws:iam::1:user/x\nis refused")
		return
	}
	if target := r.Header.Get("X-Amz-Target"); target != "AWSPriceListService.GetProducts" {
		fail(w, "ValidationException", "X-Amz-Target "+target)
		return
	}
	if !strings.Contains(r.Header.Get("Authorization"), "/pricing/aws4_request") {
		fail(w, "InvalidSignatureException", "not signed for the service")
		return
	}
	var asked request
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		fail(w, "ValidationException", err.Error())
		return
	}
	documents, err := p.matching(asked)
	if err != nil {
		fail(w, "ValidationException", err.Error())
		return
	}
	sent, _ := strconv.Atoi(asked.NextToken) // the number of documents sent so far; none at first
	answer := struct {
		FormatVersion string
		PriceList     []string
		NextToken     string `json:",omitempty"`
	}{FormatVersion: "aws_v1", PriceList: documents[sent:min(sent+pageSize, len(documents))]}
	if sent+pageSize < len(documents) {
		answer.NextToken = strconv.Itoa(sent + pageSize)
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		panic(http.ErrAbortHandler) // the client has gone
	}
}

// request is the body of GetProducts.
type request struct {
	ServiceCode string
	Filters     []struct{ Type, Field, Value string }
	NextToken   string
}

// matching notes the request, and returns the documents of the products that it asks for.
func (p *PriceList) matching(asked request) ([]string, error) {
	line, region := asked.ServiceCode, ""
	for _, filter := range asked.Filters {
		if filter.Type != "TERM_MATCH" {
			return nil, fmt.Errorf("filter type %q", filter.Type)
		}
		if filter.Field == "regionCode" || filter.Field == "fromRegionCode" {
			region = filter.Value
		}
		line += " " + filter.Field + "=" + filter.Value
	}
	p.mu.Lock()
	p.lines = append(p.lines, line)
	p.mu.Unlock()

	var documents []string
	for i, product := range p.Products {
		if product.Region == "" {
			product.Region = p.Region
		}
		if product.Service == asked.ServiceCode && product.Region == region {
			documents = append(documents, product.document(i))
		}
	}
	return documents, nil
}

// document is an entry of PriceList, in the form that the API returns.
func (f Product) document(i int) string {
	steps := f.Price
	if !strings.HasPrefix(steps, "{") {
		steps = "{" + Step("0", "Inf", f.Price) + "}"
	}
	return fmt.Sprintf(`{"product":{"productFamily":"Compute","attributes":{"regionCode":%q,"servicecode":%q,"usagetype":%q,"locationType":"AWS Region"},"sku":"SKU%d"},`+
		`"serviceCode":%q,"terms":{"OnDemand":{"SKU%d.JRTCKXETXF":{"priceDimensions":%s,"sku":"SKU%d","effectiveDate":"2026-10-01T00:00:00Z","offerTermCode":"JRTCKXETXF","termAttributes":{}}}},`+
		`"version":"20261105182130","publicationDate":"2026-11-05T18:21:30Z"}`, f.Region, f.Service, f.Usage, i, f.Service, i, steps, i)
}

func fail(w http.ResponseWriter, code, message string) {
	w.WriteHeader(http.StatusBadRequest)
	body, _ := json.Marshal(map[string]string{"__type": "com.amazonaws.pricing#" + code, "message": message}) // strings always marshal
	_, _ = w.Write(body)                                                                                      // the client may have gone
}
