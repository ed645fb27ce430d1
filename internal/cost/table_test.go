package cost

import (
	"strings"
	"testing"
)

func TestEmbeddedTablesAreSourcedAndDated(t *testing.T) {
	if len(Regions()) == 0 {
		t.Fatal("no table is embedded")
	}
	for _, region := range Regions() {
		table, err := Load(region) // refuses a figure without a source or a date
		if err != nil {
			t.Error(err)
		}
		for key, price := range table.Prices {
			if price.Source == "" || price.AsOf == "" || price.Read == "" {
				t.Errorf("%s: %s has no source or no date: %+v", region, key, price)
			}
			if price.AsOf > price.Read {
				t.Errorf("%s: %s is dated %s, after it was read on %s", region, key, price.AsOf, price.Read)
			}
			if strings.Contains(price.Note, "above") {
				t.Errorf("%s: %s leans on another row, which may move: %q", region, key, price.Note)
			}
			if price.rate.Sign() == 0 {
				t.Errorf("%s: %s is free, which no priced resource is", region, key)
			}
		}
	}
}

func TestHomeRegionIsWhole(t *testing.T) {
	table := home(t)
	for key, known := range skus {
		if _, found := table.Prices[key]; !found {
			t.Errorf("no price for %s (%s)", key, known.name)
		}
	}
}

func TestRegionWithoutTableIsEmpty(t *testing.T) {
	table, err := Load("ap-south-2")
	if err != nil || table.Region != "ap-south-2" || len(table.Prices) != 0 {
		t.Errorf("got %+v, %v", table, err)
	}
}

func TestDecodeIsStrict(t *testing.T) {
	const good = `{"sku":"secret","usd":"0.40","unit":"secret-month","source":"https://a.example","as_of":"2026-01-02","read":"2026-01-03"}`
	table := func(prices string) string { return `{"region":"x","prices":[` + prices + `]}` }
	if _, err := decode([]byte(table(good))); err != nil {
		t.Fatalf("a good table: %v", err)
	}
	for name, test := range map[string]struct{ data, want string }{
		"unknown field":     {table(strings.Replace(good, `"usd"`, `"usdd"`, 1)), "unknown field"},
		"unknown key":       {table(strings.Replace(good, `"secret"`, `"secrets"`, 1)), "unknown key"},
		"twice":             {table(good + "," + good), "twice"},
		"another unit":      {table(strings.Replace(good, "secret-month", "month", 1)), "priced by the secret-month"},
		"no number":         {table(strings.Replace(good, "0.40", "0.4x", 1)), "not a decimal number"},
		"negative":          {table(strings.Replace(good, "0.40", "-0.40", 1)), "not a decimal number"},
		"no source":         {table(strings.Replace(good, "https://a.example", "", 1)), "is not an address"},
		"no date":           {table(strings.Replace(good, "2026-01-02", "", 1)), "not of the form"},
		"no day of reading": {table(strings.Replace(good, "2026-01-03", "January", 1)), "not of the form"},
		"more after it":     {table(good) + "{}", "follows"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decode([]byte(test.data)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
