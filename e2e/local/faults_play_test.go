//go:build e2e

package local

import (
	"strings"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
)

// playParked is about an API that names a time hours away: the session gives its place up, says until when it waits, and
// can be stopped. That it goes on by itself is TestAParkedSessionGoesOn of package daemon.
func playParked(s *stage) string {
	s.t.Helper()
	running := s.run()
	var session *api.Session
	s.eventually("the session waits", func() bool {
		session = s.the()
		return session.State == api.Waiting
	})
	if session.WaitingUntil == nil || time.Until(*session.WaitingUntil).Round(time.Minute) != 3*time.Hour {
		s.t.Errorf("it waits until %v", session.WaitingUntil)
	}
	if other := s.end(s.create(api.NewSession{Prompt: greeting}).ID); other.State != api.Succeeded {
		s.t.Errorf("another session is %s meanwhile: %+v", other.State, other.Error)
	}
	if now := s.the(); now.State != api.Waiting {
		s.t.Errorf("it is %s", now.State)
	}
	if _, stderr, exit := s.agent.berth("", "stop", session.ID); exit != 0 {
		s.t.Errorf("berth stop: exit %d: %s", exit, stderr)
	}
	r := <-running
	if until := session.WaitingUntil.UTC().Format("15:04"); !strings.Contains(r.stderr, "waiting") || !strings.Contains(r.stderr, until) {
		s.t.Errorf("who follows it is not told that it waits until %s:\n%s", until, r.stderr)
	}
	if how := s.tell(session.ID, r.exit, r.stderr); how != "cancelled" {
		s.t.Errorf("it is %s after berth stop", how)
	}
	return "waiting for 3 h"
}

// playNewKeyFile is about a key that is refused, and another one that is written into its file.
func playNewKeyFile(s *stage) string {
	s.t.Helper()
	running := s.run()
	s.held("refused", 2)
	s.writeKey(anotherKey)
	return "waiting for a key, then " + s.wait(running)
}

// playNewKeyRestart is about a key that is refused, and an agent that is started again with another one.
func playNewKeyRestart(s *stage) string {
	s.t.Helper()
	id := s.create(api.NewSession{Prompt: steps}).ID
	s.held("refused", 2)
	if err := s.stop(); err != nil {
		s.t.Errorf("berthd: %v", err)
	}
	delete(s.env, contract.EnvAnthropicAPIKeyFile)
	s.env[contract.EnvAnthropicAPIKey] = anotherKey
	s.start()
	ended := s.end(id)
	exit := 0
	if ended.State != api.Succeeded {
		exit = 1
	}
	return "waiting for a key, then " + s.tell(id, exit, "")
}

// playKeyGone is about a key that is gone for a moment, as when its file is replaced.
func playKeyGone(s *stage) string {
	s.t.Helper()
	running := s.run()
	s.held("missing", 1)
	s.writeKey(secret)
	return "waiting for a key, then " + s.wait(running)
}

// playNoKey is about an agent without a key.
func playNoKey(s *stage) string {
	s.t.Helper()
	running := s.run()
	s.eventually("the session is there", func() bool { return s.the().ID != "" })
	s.held("missing", 0)
	if session := s.the(); session.Attempts != 0 || session.StartedAt != nil {
		s.t.Errorf("it was started: %+v", session)
	}
	s.writeKey(secret)
	return "waiting for a key, then " + s.wait(running)
}

// held waits until the queue is held for want of a key, and sees that nothing is burnt meanwhile: the model is asked no
// more often, neither by the session nor by a further one, and `berth status` says what is wrong.
func (s *stage) held(key string, asked int) {
	s.t.Helper()
	var session *api.Session
	var status *api.Status
	s.eventually("the queue is held", func() (held bool) {
		var err error
		if status, err = s.client.Status(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
		session = s.the()
		return status.Key == key && session.State == api.Queued && len(status.Problems) == 1
	})
	further := s.create(api.NewSession{Prompt: greeting})
	stdout, stderr, exit := s.agent.berth("", "status")
	if exit != 1 || !strings.Contains(stdout, "key: "+key) || !strings.Contains(stdout, "PROBLEM") || !strings.Contains(stderr, "key") {
		s.t.Errorf("berth status: exit %d\n%s\n%s", exit, stdout, stderr)
	}
	if _, stderr, exit := s.agent.berth("", "stop", further.ID); exit != 0 {
		s.t.Errorf("a further session: %s", stderr) // it was queued, or it would have succeeded
	}
	now := s.the()
	if s.asked() != asked || now.CostUSD != session.CostUSD || now.Attempts != session.Attempts {
		s.t.Errorf("%d requests, not %d; it was %+v and is %+v", s.asked(), asked, session, now)
	}
	if status.Spend.DayUSD != session.CostUSD {
		s.t.Errorf("$%g are spent, $%g by the session", status.Spend.DayUSD, session.CostUSD)
	}
}
