package cost

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

//go:embed prices/*.json
var files embed.FS

// HomeRegion is the region whose embedded table is whole, and which holds the worldwide prices.
const HomeRegion = "us-east-1"

// Price is what one unit costs, and how that is known.
type Price struct {
	SKU    Key    `json:"sku"`
	USD    string `json:"usd"`            // dollars for one unit, a decimal number as AWS writes it
	Unit   string `json:"unit"`           // such as "GB-month"
	Source string `json:"source"`         // address where AWS publishes it
	AsOf   string `json:"as_of"`          // the day for which the figure was stated, YYYY-MM-DD
	Read   string `json:"read"`           // the day on which it was looked up
	Note   string `json:"note,omitempty"` // where it was read, when not at the source itself

	rate *big.Rat
}

// Table holds the prices of one region.
type Table struct {
	Region string
	Prices map[Key]Price
	Live   bool // asked for a moment ago, not embedded
}

// Load reads the embedded table of a region; a region without one has an empty table.
func Load(region string) (Table, error) {
	data, err := files.ReadFile(path.Join("prices", region+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return Table{Region: region, Prices: map[Key]Price{}}, nil
	}
	if err != nil {
		return Table{}, fmt.Errorf("price table of %s: %w", region, err)
	}
	table, err := decode(data)
	if err != nil {
		return Table{}, fmt.Errorf("price table of %s: %w", region, err)
	}
	if table.Region != region {
		return Table{}, fmt.Errorf("price table of %s: it says it is of %q", region, table.Region)
	}
	return table, nil
}

// Regions lists the regions that have an embedded table, whole or not.
func Regions() []string {
	entries, _ := files.ReadDir("prices") // the directory is part of the program
	var regions []string
	for _, entry := range entries {
		regions = append(regions, strings.TrimSuffix(entry.Name(), ".json"))
	}
	return regions
}

// decode parses a table and refuses what would make it wrong or doubtful: a key that it does not
// know, a figure twice, a figure without a source or a date, a unit that is not the key's.
func decode(data []byte) (Table, error) {
	var file struct {
		Region string  `json:"region"`
		Prices []Price `json:"prices"`
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return Table{}, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Table{}, errors.New("something follows the table")
	}
	table := Table{Region: file.Region, Prices: make(map[Key]Price, len(file.Prices))}
	for _, price := range file.Prices {
		if _, twice := table.Prices[price.SKU]; twice {
			return Table{}, fmt.Errorf("%s is there twice", price.SKU)
		}
		if err := price.check(); err != nil {
			return Table{}, fmt.Errorf("%s: %w", price.SKU, err)
		}
		table.Prices[price.SKU] = price
	}
	return table, nil
}

var decimal = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)

// check fails unless every part of the price is there and can be used, and prepares its rate.
func (p *Price) check() error {
	known, ok := skus[p.SKU]
	if !ok {
		return errors.New("unknown key")
	}
	if p.Unit != known.unit {
		return fmt.Errorf("unit %q; it is priced by the %s", p.Unit, known.unit)
	}
	if !decimal.MatchString(p.USD) {
		return fmt.Errorf("usd %q is not a decimal number of dollars", p.USD)
	}
	p.rate, _ = new(big.Rat).SetString(p.USD) // the pattern admits nothing that SetString refuses
	if !strings.HasPrefix(p.Source, "https://") {
		return fmt.Errorf("source %q is not an address", p.Source)
	}
	for _, date := range []string{p.AsOf, p.Read} {
		if _, err := time.Parse(time.DateOnly, date); err != nil {
			return fmt.Errorf("date %q is not of the form YYYY-MM-DD", date)
		}
	}
	return nil
}

// dates returns the first and the last day for which the prices of keys were stated.
func (t Table) dates(keys []Key) (first, last string) {
	var days []string
	for _, key := range keys {
		days = append(days, t.Prices[key].AsOf)
	}
	if len(days) == 0 {
		return "", ""
	}
	return slices.Min(days), slices.Max(days)
}
