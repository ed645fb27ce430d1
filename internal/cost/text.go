package cost

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// WriteText writes the estimate for people: its rows as an aligned table, the total, what the prices
// are dated, and what is assumed and left out. It is plain text without colours, at any width.
func WriteText(w io.Writer, e Estimate) error {
	lines := [][4]string{{"RESOURCE", "QUANTITY", "ASSUMPTION", "MONTHLY"}}
	for _, row := range e.Rows {
		lines = append(lines, [4]string{row.Resource, row.Quantity, row.Assumption, "$" + row.Monthly.String()})
	}
	lines = append(lines, [4]string{"Total", "", "", "$" + e.Total.String()})
	var widths [4]int
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&text, "%-*s  %-*s  %-*s  %*s\n",
			widths[0], line[0], widths[1], line[1], widths[2], line[2], widths[3], line[3])
	}
	fmt.Fprintf(&text, "\n%s\n", e.dated())
	for _, note := range e.Notes {
		fmt.Fprintln(&text, note)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// dated says where the prices are from and of which days.
func (e Estimate) dated() string {
	origin := "embedded in berth (--live asks AWS)"
	if e.Live {
		origin = "asked of the AWS Price List API"
	}
	days := e.PricesDated
	if e.newest != e.PricesDated {
		days += " to " + e.newest
	}
	return fmt.Sprintf("Region %s; prices dated %s, %s; dollars a month.", e.Region, days, origin)
}
