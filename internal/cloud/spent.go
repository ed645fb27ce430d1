package cloud

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/costexplorer"
	"github.com/aws/aws-sdk-go-v2/service/costexplorer/types"

	"berth/internal/contract"
)

// MonthSpent is what AWS has charged a deployment for in a month (UTC).
type MonthSpent struct {
	Month     string         `json:"month"`     // such as 2026-11
	Estimated bool           `json:"estimated"` // AWS has not closed it yet
	Services  []ServiceSpent `json:"services"`
}

// ServiceSpent is one service's part of it, in US dollars.
type ServiceSpent struct {
	Service string  `json:"service"`
	USD     float64 `json:"usd"`
}

// costExplorerRegion is where Cost Explorer answers for all regions of the partition.
const costExplorerRegion = "us-east-1"

// unblended is the metric of what is charged, as requests and answers name it (the SDK's constant is another API's).
const unblended = "UnblendedCost"

// Spent asks Cost Explorer what the resources with the deployment's tags have cost, in the month of now and the one before. Nothing is an
// error that says why that may be.
func (c *Client) Spent(ctx context.Context, names contract.Names, now time.Time) ([]MonthSpent, error) {
	explorer := costexplorer.NewFromConfig(c.Config, func(o *costexplorer.Options) { o.Region = costExplorerRegion })
	now = now.UTC()
	first := time.Date(now.Year(), now.Month()-1, 1, 0, 0, 0, 0, time.UTC)
	tag := func(key, value string) types.Expression {
		return types.Expression{Tags: &types.TagValues{Key: &key, Values: []string{value}}}
	}
	query := &costexplorer.GetCostAndUsageInput{
		TimePeriod:  &types.DateInterval{Start: aws.String(first.Format(time.DateOnly)), End: aws.String(now.AddDate(0, 0, 1).Format(time.DateOnly))}, // the end is exclusive
		Granularity: types.GranularityMonthly, Metrics: []string{unblended},
		Filter:  &types.Expression{And: []types.Expression{tag(contract.TagProject, names.Project), tag(contract.TagEnvironment, names.Environment)}},
		GroupBy: []types.GroupDefinition{{Type: types.GroupDefinitionTypeDimension, Key: aws.String("SERVICE")}},
	}
	var months []MonthSpent
	for {
		page, err := explorer.GetCostAndUsage(ctx, query)
		if missing := new(types.DataUnavailableException); errors.As(err, &missing) {
			return nil, &Error{"Cost Explorer has no data of this account yet", "open it once in the billing console, and ask again a day later", err}
		}
		if err != nil {
			return nil, Explain(err)
		}
		for i := range page.ResultsByTime {
			if months, err = addSpent(months, &page.ResultsByTime[i]); err != nil {
				return nil, err
			}
		}
		if page.NextPageToken == nil {
			break
		}
		query.NextPageToken = page.NextPageToken
	}
	for _, month := range months {
		if len(month.Services) > 0 {
			return months, nil
		}
	}
	return nil, &Error{
		What: fmt.Sprintf("Cost Explorer knows of no cost with the tags %s=%s and %s=%s", contract.TagProject, names.Project, contract.TagEnvironment, names.Environment),
		Next: "it counts from a day after they were activated as cost allocation tags: `aws ce update-cost-allocation-tags-status --cost-allocation-tags-status TagKey=" +
			contract.TagProject + ",Status=Active TagKey=" + contract.TagEnvironment + ",Status=Active`",
	}
}

// addSpent adds a part of an answer, which has a month on several pages where it is long.
func addSpent(months []MonthSpent, from *types.ResultByTime) ([]MonthSpent, error) {
	month := ""
	if from.TimePeriod != nil {
		month = fmt.Sprintf("%.7s", aws.ToString(from.TimePeriod.Start))
	}
	if len(months) == 0 || months[len(months)-1].Month != month {
		months = append(months, MonthSpent{Month: month, Estimated: from.Estimated, Services: []ServiceSpent{}})
	}
	last := &months[len(months)-1]
	for _, group := range from.Groups {
		amount := group.Metrics[unblended]
		dollars, err := strconv.ParseFloat(aws.ToString(amount.Amount), 64)
		if err != nil || len(group.Keys) == 0 || aws.ToString(amount.Unit) != "USD" {
			return nil, &Error{What: fmt.Sprintf("Cost Explorer's answer cannot be read: %.40q %.10q", aws.ToString(amount.Amount), aws.ToString(amount.Unit)), Next: "look at the billing console"}
		}
		last.Services = append(last.Services, ServiceSpent{group.Keys[0], dollars})
	}
	return months, nil
}
