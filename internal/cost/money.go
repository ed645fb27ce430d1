package cost

import (
	"fmt"
	"math/big"
	"strconv"
)

// USD is an amount of money in cents.
type USD int64

// String writes the amount in dollars: "85.06", "-0.50".
func (u USD) String() string {
	sign, cents := "", u
	if u < 0 {
		sign, cents = "-", -u
	}
	return fmt.Sprintf("%s%d.%02d", sign, cents/100, cents%100)
}

// MarshalJSON writes the amount as a JSON number of dollars with two decimals.
func (u USD) MarshalJSON() ([]byte, error) { return []byte(u.String()), nil }

// cents rounds dollars to the cent, half away from zero.
func cents(dollars *big.Rat) USD {
	rounded, err := strconv.ParseInt(new(big.Rat).Mul(dollars, big.NewRat(100, 1)).FloatString(0), 10, 64)
	if err != nil {
		panic("cost: an amount beyond what the assumptions' limits allow: " + dollars.FloatString(2))
	}
	return USD(rounded)
}

// exact is the number that f's shortest decimal notation writes, so that 0.1 is a tenth.
func exact(f float64) *big.Rat {
	r, ok := new(big.Rat).SetString(number(f))
	if !ok {
		panic("cost: not a finite number: " + number(f))
	}
	return r
}

// number writes f in decimal notation, as short as it goes.
func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func product(factors ...*big.Rat) *big.Rat {
	result := big.NewRat(1, 1)
	for _, factor := range factors {
		result.Mul(result, factor)
	}
	return result
}

func whole(n int) *big.Rat { return big.NewRat(int64(n), 1) }
