package cost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/pricing"
	"github.com/aws/aws-sdk-go-v2/service/pricing/types"
	"github.com/aws/smithy-go"
)

// liveSource documents where prices of a live table come from.
const liveSource = "https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_pricing_GetProducts.html"

// LiveEndpoint is the region whose Price List Query API to ask for prices of region: each of them has
// all prices, and the AWS SDK lists three (service/pricing, internal/endpoints).
func LiveEndpoint(region string) string {
	switch {
	case strings.HasPrefix(region, "eu-"):
		return "eu-central-1"
	case strings.HasPrefix(region, "ap-"):
		return "ap-south-1"
	}
	return "us-east-1"
}

// Live asks the AWS Price List Query API for the prices of keys in a region.
//
// Prices that the API does not have come from the embedded tables, with their own dates: Spot prices
// from the region's, worldwide ones from HomeRegion's. A key may stay without a price only there;
// that the API lacks a product, or has two that differ, is an error. Errors are one line.
func Live(ctx context.Context, api pricing.GetProductsAPIClient, region string, keys []Key) (Table, error) {
	table := Table{Region: region, Prices: make(map[Key]Price), Live: true}
	services := make(map[string][]Key)
	for _, key := range keys {
		if service := skus[key].service; service != "" {
			services[service] = append(services[service], key)
			continue
		}
		if err := table.carry(key); err != nil {
			return Table{}, err
		}
	}
	for _, service := range slices.Sorted(maps.Keys(services)) {
		offers, err := ask(ctx, api, service, region)
		if err != nil {
			return Table{}, err
		}
		for _, key := range services[service] {
			price, err := choose(offers, key, region)
			if err != nil {
				return Table{}, err
			}
			table.Prices[key] = price
		}
	}
	return table, nil
}

// carry takes a price that the API does not have from the embedded tables, if they have it.
func (t Table) carry(key Key) error {
	region := t.Region
	if skus[key].worldwide {
		region = HomeRegion
	}
	embedded, err := Load(region)
	if err != nil {
		return err
	}
	if price, found := embedded.Prices[key]; found {
		t.Prices[key] = price
	}
	return nil
}

// offer is what an entry of the API's PriceList, a JSON document in a string, says of a product.
type offer struct {
	Product struct {
		SKU        string            `json:"sku"`
		Attributes map[string]string `json:"attributes"`
	} `json:"product"`
	Terms struct {
		OnDemand map[string]struct {
			EffectiveDate   string               `json:"effectiveDate"`
			PriceDimensions map[string]dimension `json:"priceDimensions"`
		} `json:"OnDemand"`
	} `json:"terms"`
	PublicationDate string `json:"publicationDate"`
}

// dimension is a step of a product's price.
type dimension struct {
	Begin        string            `json:"beginRange"`
	PricePerUnit map[string]string `json:"pricePerUnit"`
}

// ask fetches all products of a service in a region, page by page.
func ask(ctx context.Context, api pricing.GetProductsAPIClient, service, region string) ([]offer, error) {
	filter := func(field, value string) types.Filter {
		return types.Filter{Type: types.FilterTypeTermMatch, Field: aws.String(field), Value: aws.String(value)}
	}
	filters := []types.Filter{filter("regionCode", region)}
	switch service {
	case "AmazonECS": // which also lists a price for every type of managed instance
		filters = append(filters, filter("productFamily", "Compute"))
	case "AWSDataTransfer":
		filters = []types.Filter{
			filter("fromRegionCode", region), filter("toLocation", "External"),
			filter("transferType", "AWS Outbound"),
		}
	}
	pages := pricing.NewGetProductsPaginator(api, &pricing.GetProductsInput{
		ServiceCode: aws.String(service), Filters: filters, FormatVersion: aws.String("aws_v1"),
	})
	var offers []offer
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("AWS Price List API, %s in %s: %w", service, region, explain(err))
		}
		for _, document := range page.PriceList {
			var o offer
			if err := json.Unmarshal([]byte(document), &o); err != nil {
				return nil, fmt.Errorf("AWS Price List API, %s in %s: a product that is not in the documented form: %w", service, region, err)
			}
			offers = append(offers, o)
		}
	}
	return offers, nil
}

// explain says what to do about the errors that people meet.
func explain(err error) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return err
	}
	advice := ""
	switch api.ErrorCode() {
	case "AccessDeniedException":
		advice = "; allow the action pricing:GetProducts"
	case "ThrottlingException", "TooManyRequestsException":
		advice = "; wait a minute and try again"
	case "ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException":
		advice = "; renew the AWS credentials"
	}
	return fmt.Errorf("%s: %s%s", api.ErrorCode(), strings.Join(strings.Fields(api.ErrorMessage()), " "), advice)
}

// usagePrefix is what AWS puts before a usage type to name its region; us-east-1 often has none.
var usagePrefix = regexp.MustCompile(`^[A-Z]{2,4}[0-9]{0,2}-`)

// choose finds the price of key among a service's products. Several products may match where they
// cost the same, as reads and writes of EFS Infrequent Access do.
func choose(offers []offer, key Key, region string) (Price, error) {
	wanted := skus[key]
	var found []Price
	for _, o := range offers {
		usage := o.Product.Attributes["usagetype"]
		if usage != wanted.usage && usagePrefix.ReplaceAllString(usage, "") != wanted.usage {
			continue
		}
		price, err := o.price(key)
		if err != nil {
			return Price{}, fmt.Errorf("AWS Price List API, %s in %s (%s): %w", wanted.name, region, usage, err)
		}
		found = append(found, price)
	}
	if len(found) == 0 {
		return Price{}, fmt.Errorf("AWS Price List API: no product for %s in %s (%s, usage type %s)",
			wanted.name, region, wanted.service, wanted.usage)
	}
	for _, other := range found[1:] {
		if other.rate.Cmp(found[0].rate) != 0 {
			return Price{}, fmt.Errorf("AWS Price List API: two products for %s in %s, at $%s and $%s; the usage type %s is no longer enough to tell them apart",
				wanted.name, region, trim(found[0].USD), trim(other.USD), wanted.usage)
		}
	}
	return found[0], nil
}

// price takes the first step of the product's price that costs something: allowances of an account
// come as a first step at $0, and no estimate reaches the second step that is charged.
func (o offer) price(key Key) (Price, error) {
	price := Price{
		SKU: key, Unit: skus[key].unit, Read: time.Now().UTC().Format(time.DateOnly),
		Source: liveSource, Note: "SKU " + o.Product.SKU,
	}
	lowest := new(big.Rat)
	for _, term := range o.Terms.OnDemand {
		for _, step := range term.PriceDimensions {
			begin, ok := new(big.Rat).SetString(step.Begin)
			if !ok {
				return Price{}, fmt.Errorf("a step begins at %q", step.Begin)
			}
			usd, ok := step.PricePerUnit["USD"]
			rate, valid := new(big.Rat).SetString(usd)
			if !ok || !valid {
				return Price{}, errors.New("no price in US dollars")
			}
			free := price.rate != nil && price.rate.Sign() == 0
			if price.rate == nil || rate.Sign() > 0 && (free || begin.Cmp(lowest) < 0) {
				price.USD, price.rate, lowest = usd, rate, begin
				price.AsOf = day(o.PublicationDate, term.EffectiveDate)
			}
		}
	}
	if price.rate == nil {
		return Price{}, errors.New("no price on demand")
	}
	return price, price.check()
}

// day is the day of the first timestamp that is one.
func day(timestamps ...string) string {
	for _, timestamp := range timestamps {
		if t, err := time.Parse(time.RFC3339, timestamp); err == nil {
			return t.UTC().Format(time.DateOnly)
		}
	}
	return ""
}
