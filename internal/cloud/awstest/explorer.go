package awstest

// Spent is what Cost Explorer tells of a month, by service. The newest month is the last.
type Spent struct {
	From, To  string // days
	Estimated bool
	Services  []ServiceSpent
}

// ServiceSpent is one service's part, as text.
type ServiceSpent struct{ Service, USD string }

// Spends has Cost Explorer tell of months, to whoever asks with the stack's tags.
func (w *World) Spends(project, environment string, months ...Spent) {
	w.Extra["ce"] = map[[2]string][]Spent{{project, environment}: months}
}

var _ = register("ce", map[string]Handler{
	"GetCostAndUsage": func(w *World, c Call) (any, error) {
		tags := map[string]string{}
		filter, _ := c.Input["Filter"].(map[string]any)
		both, _ := filter["And"].([]any)
		for _, each := range both {
			expression, _ := each.(map[string]any)
			tag, _ := expression["Tags"].(map[string]any)
			key, _ := tag["Key"].(string)
			if values, _ := tag["Values"].([]any); len(values) == 1 {
				tags[key], _ = values[0].(string)
			}
		}
		spent, _ := w.Extra["ce"].(map[[2]string][]Spent)
		months := []object{}
		for _, month := range spent[[2]string{tags["Project"], tags["Environment"]}] {
			groups := []object{}
			for _, each := range month.Services {
				groups = append(groups, object{"Keys": []any{each.Service}, "Metrics": object{"UnblendedCost": object{"Amount": each.USD, "Unit": "USD"}}})
			}
			months = append(months, object{"TimePeriod": object{"Start": month.From, "End": month.To}, "Estimated": month.Estimated, "Groups": groups, "Total": object{}})
		}
		return object{"ResultsByTime": months}, nil
	},
})
