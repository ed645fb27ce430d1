package daemon

import (
	"errors"
	"fmt"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
	"berth/internal/session"
)

// What the gateway tells of a session's requests.

// mayAsk says why a session's requests may not leave any more; nil if they may.
func (d *Daemon) mayAsk(id string) error {
	s := d.store.Get(id)
	if s == nil {
		return session.ErrLost
	}
	return s.Verify()
}

// requested writes down what a request has cost. The ledger has it already.
func (d *Daemon) requested(id string, request api.Request) {
	s := d.store.Get(id)
	if s == nil {
		return
	}
	if err := s.Append(api.Event{Type: api.EventRequest, Request: &request}); err != nil {
		// The next run makes up for it.
		d.config.Logger.Warn("a request is not in the session's events", contract.LogFieldSession, id, contract.LogFieldError, err)
	}
}

func (d *Daemon) noticed(id, text string) {
	if r := d.runOf(id); r != nil {
		r.notice(text)
	}
}

// park has a session wait for a time that the API named.
func (d *Daemon) park(id string, until time.Time, why string) {
	if r := d.runOf(id); r != nil {
		r.endAt(until, why)
	}
}

// keyRefused interrupts a session whose requests cannot be made. The queue is held meanwhile.
func (d *Daemon) keyRefused(id, why string) {
	if r := d.runOf(id); r != nil {
		r.endFor(noKey, why)
	}
	d.rouse()
}

// keyProblem says what is wrong with the key; nil if nothing is.
func (d *Daemon) keyProblem() error {
	switch key := d.models.Key(); key.State {
	case "missing":
		return errors.New("there is no API key: set ANTHROPIC_API_KEY where the agent is started and start it again, or write it into the file that ANTHROPIC_API_KEY_FILE names")
	case "refused":
		return fmt.Errorf("the API key is refused: %s", oneLine(key.Why))
	}
	return nil
}

// spendProblem says which of the agent's limits is reached; nil if none is.
func (d *Daemon) spendProblem() error {
	spend := d.config.Models.Ledger.Spend()
	switch {
	case spend.DayLimitUSD > 0 && spend.DayUSD >= spend.DayLimitUSD:
		return fmt.Errorf("the limit of $%.4g a day is reached ($%.4f are spent): it begins anew at 00:00 UTC, or raise %s", spend.DayLimitUSD, spend.DayUSD, contract.EnvSpendLimitDayUSD)
	case spend.MonthLimitUSD > 0 && spend.MonthUSD >= spend.MonthLimitUSD:
		return fmt.Errorf("the limit of $%.4g a month is reached ($%.4f are spent): it begins anew with the next month (UTC), or raise %s", spend.MonthLimitUSD, spend.MonthUSD, contract.EnvSpendLimitUSD)
	}
	return nil
}

// Sample is how the agent is at this moment, for its metrics.
func (d *Daemon) sample() (queued, active int, progressing bool) {
	progressing = true
	for _, s := range d.store.List() {
		switch s.State() {
		case api.Queued:
			queued++
		case api.Preparing, api.Running:
			active++
		default:
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.runs {
		progressing = progressing && !r.stuck()
	}
	return queued, active, progressing && len(d.problems) == 0
}
