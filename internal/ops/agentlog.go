package ops

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"

	"berth/internal/api"
	"berth/internal/cloud"
	"berth/internal/contract"
)

// logLate is how much later than its time a line may come. Lines are asked for again and again, and not tailed live:
// docs/decisions/0018-following-logs.md.
const logLate = time.Minute

// agentLog shows what the agent in AWS has logged, as CloudWatch has it.
type agentLog struct {
	stdio   Stdio
	client  *cloud.Client
	group   string
	session string // only lines that name it
	asJSON  bool
	every   time.Duration

	from time.Time            // what comes next is not older
	seen map[string]time.Time // what was shown, by its id
}

// newAgentLog finds the log of a deployment.
func (l *Logs) newAgentLog(ctx context.Context, stdio Stdio) (*agentLog, error) {
	client, stack, err := l.standing(ctx)
	if err != nil {
		return nil, away(err)
	}
	log := &agentLog{
		stdio: stdio, client: client, group: stack.Outputs[contract.OutputLogGroupName], asJSON: l.JSON, every: pollEvery(stdio.Getenv),
		from: time.Now().Add(-l.Since), seen: map[string]time.Time{},
	}
	if log.group == "" {
		return nil, fmt.Errorf("stack %s tells no log group (it is in %s); `berth status%s` says more", stack.Names.Stack(), stack.Status, l.flags())
	}
	if l.ID != nil {
		log.session = strings.ToLower(*l.ID)
	}
	return log, nil
}

// show shows what there is, and with follow what comes until ctx is done.
func (l *agentLog) show(ctx context.Context, follow bool) error {
	pause, good := l.every, time.Now()
	for {
		err := l.once(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			pause, good = l.every, time.Now()
		case !follow || !errors.Is(away(err), api.ErrUnreachable) || time.Since(good) > reachPatience:
			return away(err)
		default:
			pause = min(2*pause, 30*time.Second)
		}
		if !follow {
			if len(l.seen) == 0 {
				tell(l.stdio.Err, "nothing was logged since %s; a longer --since looks further back", l.from.UTC().Format("2006-01-02 15:04 UTC"))
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// once shows what is new.
func (l *agentLog) once(ctx context.Context) error {
	query := &cloudwatchlogs.FilterLogEventsInput{LogGroupName: &l.group, StartTime: aws.Int64(l.from.UnixMilli())}
	if l.session != "" {
		query.FilterPattern = aws.String(`"` + strings.ReplaceAll(l.session, `"`, `\"`) + `"`)
	}
	pages := cloudwatchlogs.NewFilterLogEventsPaginator(l.client.Logs, query)
	newest := l.from
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return cloud.Explain(err)
		}
		slices.SortStableFunc(page.Events, func(a, b types.FilteredLogEvent) int {
			return cmp.Compare(aws.ToInt64(a.Timestamp), aws.ToInt64(b.Timestamp))
		})
		for i := range page.Events {
			at, err := l.line(&page.Events[i])
			if err != nil {
				return err
			}
			if at.After(newest) {
				newest = at
			}
		}
	}
	if late := newest.Add(-logLate); late.After(l.from) {
		l.from = late
		for id, at := range l.seen {
			if at.Before(late) {
				delete(l.seen, id)
			}
		}
	}
	return nil
}

// logLine is a line as --json writes it.
type logLine struct {
	Time    time.Time `json:"time"`
	Stream  string    `json:"stream"`
	Message any       `json:"message"` // the object if the line is one of JSON, else its text
}

// line shows a line that was not shown yet.
func (l *agentLog) line(event *types.FilteredLogEvent) (time.Time, error) {
	at, text := time.UnixMilli(aws.ToInt64(event.Timestamp)).UTC(), aws.ToString(event.Message)
	id := aws.ToString(event.EventId) + at.String() + text
	if _, shown := l.seen[id]; shown {
		return at, nil
	}
	l.seen[id] = at
	var object map[string]any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	isObject := decoder.Decode(&object) == nil && !decoder.More()
	if l.asJSON {
		line := logLine{at, aws.ToString(event.LogStreamName), text}
		if isObject {
			line.Message = object
		}
		encoded, err := json.Marshal(line)
		if err != nil {
			return at, err
		}
		_, err = fmt.Fprintln(l.stdio.Out, escapeControls(string(encoded)))
		return at, err
	}
	if isObject {
		text = logText(object)
	}
	_, err := fmt.Fprintln(l.stdio.Out, at.Format(time.RFC3339)+"  "+strings.Join(strings.Fields(printable(text)), " "))
	return at, err
}

// logText writes a line of slog's JSON as a person reads it.
func logText(object map[string]any) string {
	var text strings.Builder
	for _, key := range []string{"level", "msg"} {
		if value, is := object[key].(string); is {
			text.WriteString(value + " ")
		}
	}
	for _, key := range slices.Sorted(func(yield func(string) bool) {
		for key := range object {
			if key != "time" && key != "level" && key != "msg" && !yield(key) {
				return
			}
		}
	}) {
		value, _ := json.Marshal(object[key]) // it was JSON
		if plainWord, is := object[key].(string); is && plainWord != "" && !strings.ContainsAny(plainWord, " \"=") {
			value = []byte(plainWord)
		}
		fmt.Fprintf(&text, "%s=%s ", key, value)
	}
	return text.String()
}
