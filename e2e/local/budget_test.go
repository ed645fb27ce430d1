//go:build e2e

package local

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/scripted"
)

const (
	// budgetModel costs $1 for a million tokens of input and $5 for one of output (internal/gateway/prices.json).
	budgetModel           = "claude-haiku-4-5"
	inputRate, outputRate = 1e-6, 5e-6

	endless = "never stop"
	// cutOff is in what Claude Code asks the model after a crash in the middle of a reply of which something was there.
	cutOff = "was cut off mid-stream"

	// killWithin is how long after the arrival of a request the agent is killed at the latest: most kills meet the reply.
	killWithin = 200 * time.Millisecond
)

// budgetRow is a limit, and sessions whose model never stops.
type budgetRow struct {
	sessions int
	kills    int            // of the agent, in the middle of their requests
	budget   float64        // of each session; 0: the day's limit counts
	day      float64        // 0: none
	usage    scripted.Usage // of each request
}

var budgetRows = map[string]budgetRow{
	"a session's budget":                {sessions: 1, budget: 0.10, usage: scripted.Usage{Input: 6000, Output: 1000}},
	"a session's budget, kill -9 twice": {sessions: 1, kills: 2, budget: 0.10, usage: scripted.Usage{Input: 6000, Output: 1000}},
	"a day's limit":                     {sessions: 1, day: 1, usage: scripted.Usage{Input: 30_000, Output: 6000}},
	"a day's limit, four sessions":      {sessions: 4, day: 1, usage: scripted.Usage{Input: 30_000, Output: 6000}},
	"a day's limit, four sessions, kill -9 twice": {
		sessions: 4, kills: 2, day: 1, usage: scripted.Usage{Input: 30_000, Output: 6000},
	},
}

// However often the model would go on, what it bills ends at most one request over the limit, also across kill -9: what
// a kill cuts off counts as much as the session's largest request.
func TestBudgets(t *testing.T) {
	for name, row := range budgetRows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			day := today()
			wrong := playBudget(t, &row)
			if day != today() {
				t.Log("a new day has begun, and with it a new limit: once more")
				wrong = playBudget(t, &row)
			}
			for _, each := range wrong {
				t.Error(each)
			}
		})
	}
}

func today() string { return time.Now().UTC().Format(time.DateOnly) }

// billed is an agent whose model keeps a bill.
type billed struct {
	*agent
	row   *budgetRow
	wrong []string

	mu      sync.Mutex
	longest int // the longest body of a request, in bytes
}

func newBilled(t *testing.T, row *budgetRow) *billed {
	t.Helper()
	b := &billed{row: row}
	never := func(r scripted.Request) scripted.Step {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.longest = max(b.longest, len(r.Body))
		step := scripted.Step{Text: "On and on and on.", Tools: []scripted.Tool{scripted.Bash("echo on")}, Usage: row.usage}
		if row.kills > 0 {
			step.Chunk, step.Pause = 4, killWithin/20 // so that a kill meets it
		}
		return step
	}
	var env []string
	if row.day > 0 {
		env = append(env, contract.EnvSpendLimitDayUSD+"="+fmt.Sprint(row.day))
	}
	b.agent = newAgent(t, scripted.Options{Scripts: []scripted.Script{
		{Match: greeting, Steps: []scripted.Step{{Text: "Hello.", Usage: row.usage}}},
		{Match: endless + "|" + cutOff, Endless: true, Steps: []scripted.Step{{Compute: never}}},
	}}, env...)
	return b
}

func (b *billed) check(good bool, format string, args ...any) {
	if !good {
		b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
	}
}

// price is what a request costs.
func (row *budgetRow) price() float64 {
	return float64(row.usage.Input)*inputRate + float64(row.usage.Output)*outputRate
}

// bill is what the model says that it has sent: all of each reply that it began, though its client may have gone; and how
// many of these a kill has met. One that was whole may have been on its way at a kill, too.
func (b *billed) bill() (usd float64, met int) {
	met = b.row.kills
	for _, request := range b.model.Requests() {
		if request.Usage != (scripted.Usage{}) && !request.Whole {
			met++
		}
		usd += float64(request.Usage.Input)*inputRate + float64(request.Usage.Output)*outputRate
		b.check(request.Usage == scripted.Usage{} || strings.HasPrefix(request.Model, budgetModel), "a request is for %q", request.Model)
	}
	return usd, met
}

// playBudget runs sessions into a limit, and tells what is wrong.
func playBudget(t *testing.T, row *budgetRow) []string {
	t.Helper()
	b := newBilled(t, row)
	var ids []string
	if row.kills == 0 {
		ids = b.runAll()
	} else {
		ids = b.killAll()
	}
	sum := 0.0
	for _, id := range ids {
		session := b.end(id)
		sum += session.CostUSD
		want := api.CodeSpendLimit
		if row.budget > 0 {
			want = api.CodeMaxBudget
		}
		b.check(session.State == api.Failed && session.Error.Code == want, "session %s is %s: %+v", id, session.State, session.Error)
	}
	b.checkSpend(max(row.budget, row.day), sum)
	if row.day > 0 {
		b.raiseDay(ids[0])
	} else {
		b.raiseBudget(ids[0])
	}
	return b.wrong
}

// runAll runs the sessions with `berth run`.
func (b *billed) runAll() (ids []string) {
	b.t.Helper()
	var group sync.WaitGroup
	var mu sync.Mutex
	for range b.row.sessions {
		group.Go(func() {
			stdout, stderr, exit := b.berth("", "run", endless, "--model", budgetModel, "--max-budget-usd", strconv.FormatFloat(b.row.budget, 'f', -1, 64))
			mu.Lock()
			defer mu.Unlock()
			id, _, _ := strings.Cut(stdout, "\n")
			ids = append(ids, id)
			b.check(exit == 4, "berth run exits with %d: %s", exit, stderr)
		})
	}
	group.Wait()
	return ids
}

// killAll runs the sessions, and kills the agent early on, at any moment of a request.
func (b *billed) killAll() (ids []string) {
	b.t.Helper()
	for range b.row.sessions {
		session := b.create(api.NewSession{Prompt: endless, Options: api.Options{Model: budgetModel, MaxBudgetUSD: b.row.budget}})
		ids = append(ids, session.ID)
	}
	// What requests come to is not known before the first ones have ended.
	b.eventually("each session has had a reply", func() bool { return b.whole() >= b.row.sessions })
	for kill := range b.row.kills {
		asked := len(b.model.Requests())
		b.eventually("the sessions ask on", func() bool { return len(b.model.Requests()) >= asked+2+kill })
		<-time.After(rand.N(killWithin))
		b.kill()
		b.start()
	}
	return ids
}

// whole is how many replies the model has sent to their end.
func (b *billed) whole() (number int) {
	for _, request := range b.model.Requests() {
		if request.Whole {
			number++
		}
	}
	return number
}

// checkSpend compares the model's bill, the limit, the ledger and what the sessions say.
func (b *billed) checkSpend(limit, sessions float64) {
	b.t.Helper()
	const exact = 1e-9
	bill, met := b.bill()
	spend, err := b.client.Spend(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	estimate := float64(b.longest/4+1) * inputRate // what the ledger has of a request as it leaves
	b.mu.Unlock()
	b.t.Logf("limit $%g, a request $%.3f (estimated before $%.3f), at most %d met by kills: billed $%.4f, in the ledger $%.4f", limit, b.row.price(), estimate, met, bill, spend.DayUSD)
	b.check(bill <= limit+b.row.price()+exact, "the model has billed $%g", bill)
	b.check(spend.DayUSD >= limit-exact, "the sessions were ended at $%g of $%g", spend.DayUSD, limit)
	b.check(spend.DayUSD >= bill-exact && spend.DayUSD <= bill+float64(met)*(estimate+b.row.price())+exact, "the model has billed $%g, and the ledger has $%g", bill, spend.DayUSD)
	b.check(sessions >= spend.DayUSD-exact && sessions <= spend.DayUSD+exact, "the sessions say $%g, the ledger $%g", sessions, spend.DayUSD)
}

// raiseDay sees that the day's limit holds the queue, until it is raised.
func (b *billed) raiseDay(id string) {
	b.t.Helper()
	asked := len(b.model.Requests())
	further := b.create(api.NewSession{Prompt: greeting, Options: api.Options{Model: budgetModel}})
	stdout, stderr, exit := b.berth("", "status")
	b.check(exit == 1 && strings.Contains(stdout, "PROBLEM") && strings.Contains(stderr, "limit of $1 a day is reached"), "berth status exits with %d\n%s\n%s", exit, stdout, stderr)
	now, err := b.client.Session(b.t.Context(), further.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	b.check(now.State == api.Queued && len(b.model.Requests()) == asked, "a further session is %s", now.State)
	if err := b.stop(); err != nil {
		b.t.Errorf("berthd: %v", err)
	}
	b.env[contract.EnvSpendLimitDayUSD] = fmt.Sprint(10 * b.row.day)
	b.start()
	ended := b.end(further.ID)
	b.check(ended.State == api.Succeeded, "with a higher limit it is %s: %+v", ended.State, ended.Error)
	_, stderr, exit = b.berth("", "resume", "--detach", id)
	b.check(exit == 0, "berth resume exits with %d: %s", exit, stderr)
	asked = len(b.model.Requests())
	b.eventually("the session goes on", func() bool { return len(b.model.Requests()) > asked+1 })
	_, stderr, exit = b.berth("", "stop", id)
	b.check(exit == 0, "berth stop exits with %d: %s", exit, stderr)
}

// raiseBudget sees that a session's budget is no other's, and that it goes on with a higher one, to the end of that.
func (b *billed) raiseBudget(id string) {
	b.t.Helper()
	higher := 2 * b.row.budget
	_, stderr, exit := b.berth("", "resume", "--max-budget-usd", fmt.Sprint(higher), id)
	b.check(exit == 4, "berth resume exits with %d: %s", exit, stderr)
	b.checkSpend(higher, b.end(id).CostUSD)
	ended := b.end(b.create(api.NewSession{Prompt: greeting, Options: api.Options{Model: budgetModel}}).ID)
	b.check(ended.State == api.Succeeded, "another session is %s: %+v", ended.State, ended.Error)
}
