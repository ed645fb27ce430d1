package workspace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"berth/internal/api"
)

// deliverTime is how long a delivery may take.
const deliverTime = 5 * time.Minute

var errDeliverTooSlow = fmt.Errorf("it took longer than %v", deliverTime)

// Deliver pushes the session's last checkpoint to its origin, as the place's branch, and sees to a pull request where
// the origin is on GitHub. Of the place it needs ID, Source and Branch. The zero Delivery means that there is nothing to
// deliver, or nowhere. Whatever goes wrong is the Delivery's Problem. Delivering twice is the same as once.
func (m *Mirrors) Deliver(ctx context.Context, place Place, request Request) api.Delivery {
	if place.Source.Repo == "" {
		return api.Delivery{}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, deliverTime, errDeliverTooSlow)
	defer cancel()
	done := api.Delivery{Branch: place.Branch}
	problem := m.deliver(ctx, place, request, &done)
	if problem != nil {
		if ctx.Err() != nil {
			problem = context.Cause(ctx)
		}
		what := "the work could not be pushed"
		if done.Commit != "" {
			what = "the work is pushed as " + place.Branch + ", but there is no pull request"
		}
		done.Problem = fmt.Sprintf("%s: %s; get it with `berth pull %s` or `berth diff %s`", what, oneLine(problem.Error()), place.ID, place.ID)
	} else if done.Commit == "" && done.Note == "" {
		return api.Delivery{}
	}
	return done
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// deliver fills in what it has done, as it does it.
func (m *Mirrors) deliver(ctx context.Context, place Place, request Request, done *api.Delivery) error {
	if err := sessionID.check(place.ID); err != nil {
		return err
	}
	if !rightRefName("refs/heads/" + place.Branch) {
		return fmt.Errorf("%.80q is no name of a branch", place.Branch)
	}
	r, err := m.mirror(place.Source)
	if err != nil {
		return err
	}
	if !r.exists() {
		return nil
	}
	unlockPlace, err := m.lockPlace(ctx, "delivery of "+place.ID)
	if err != nil {
		return err
	}
	defer unlockPlace()
	held, err := r.use(ctx, false)
	if err != nil {
		return err
	}
	defer func() { unlock(held) }()
	checkpoint, err := r.sessionRef(ctx, "refs/berth/"+place.ID)
	if err != nil || checkpoint == "" {
		return err
	}
	title := request.Title
	if strings.TrimSpace(title) == "" {
		title = defaultTitle(place.ID)
	}
	found, err := r.workOf(ctx, place.ID, checkpoint, request.Base, title)
	if err != nil {
		return err
	}
	if len(found.nested) > 0 {
		done.Note = nestedNote(found.nested)
	}
	if found.none {
		return nil
	}
	from, err := place.Source.address(m.config.Closed)
	if err != nil {
		return err
	}
	if _, _, has := m.credential(from); !has && (from.kind == https || from.kind == plain) {
		return errors.New("the agent has no token for " + hostOf(from))
	}
	err = r.push(ctx, from, place, found.commit, "")
	if errors.Is(err, os.ErrExist) {
		// Somebody was killed over it, for a session has one owner at a time: what he was about to push may be there.
		unlock(held)
		if held, err = r.use(ctx, true); err != nil {
			return err
		}
		before := r.lockSays(deliveredRef(place.ID))
		r.removeLocks()
		unlock(held) // nobody should have to wait for the origin
		if held, err = r.use(ctx, false); err != nil {
			return err
		}
		err = r.push(ctx, from, place, found.commit, before)
	}
	if err != nil {
		return err
	}
	done.Commit = found.commit
	request.Title = title
	done.PullRequest, err = r.pullRequest(ctx, from, place, request)
	return err
}

func deliveredRef(id string) string { return "refs/delivered/" + id }

// push makes a commit the origin's branch. What is on that branch gives way only if it was pushed from here, or the
// commit builds on it; before is what may have been pushed from here as well. The error is os.ErrExist if somebody was killed over it.
func (r *mirror) push(ctx context.Context, from address, place Place, commit, before string) error {
	branch := "refs/heads/" + place.Branch
	answer, err := r.network(ctx, git{dir: "/"}, from, "ls-remote", "--", from.text, branch)
	if err != nil {
		return gitSaid(err, "")
	}
	there, _, _ := strings.Cut(strings.TrimSpace(answer), "\t")
	name := deliveredRef(place.ID)
	pushed, err := r.sessionRef(ctx, name)
	if err != nil {
		return err
	}
	if there == commit {
		return r.writeRef(name, commit)
	}
	if there != "" && there == before {
		// Nothing else says so any more.
		if err := r.writeRef(name, there); err != nil {
			return err
		}
		pushed = there
	}
	expected := pushed
	if there == "" {
		expected = "" // somebody has merged it and removed the branch
	} else if there != pushed && r.contains(ctx, commit, there) {
		expected = there
	}
	if there != expected {
		if there == r.lockSays(name) {
			return os.ErrExist
		}
		return fmt.Errorf("somebody else has pushed to %s of %s", place.Branch, from.text)
	}
	return r.lockedRef(name, func(lock *os.File) error {
		// First: who is killed as it is pushed leaves the lock, which says what may be there.
		if err := fillRef(lock, commit); err != nil {
			return err
		}
		output, err := r.network(ctx, r.bare(commit), from, "push", "--porcelain", "--no-verify", "--no-follow-tags", "--recurse-submodules=no",
			"--force-with-lease="+branch+":"+expected, "--", from.text, commit+":"+branch)
		if err != nil {
			return gitSaid(err, output)
		}
		r.pushed(tip{oid: commit, name: branch})
		return nil
	})
}

// contains reports whether a commit builds on another.
func (r *mirror) contains(ctx context.Context, commit, other string) bool {
	if !commitID.MatchString(other) {
		return false
	}
	_, err := r.bare(commit).run(ctx, "merge-base", "--is-ancestor", other, commit)
	return err == nil
}

// gitSaid makes of a refused push what the origin said, and git.
func gitSaid(err error, output string) error {
	failure := new(gitError)
	if !errors.As(err, &failure) {
		return err
	}
	for _, hint := range hints {
		if strings.Contains(failure.said, hint.said) {
			meaning := hint.meaning
			if meaning == "" {
				meaning = failure.reason()
			}
			return fmt.Errorf("%s; %s", meaning, hint.next)
		}
	}
	var said []string
	for line := range strings.Lines(failure.said) {
		if text, found := strings.CutPrefix(strings.TrimSpace(line), "remote: "); found && len(said) < 5 {
			said = append(said, strings.TrimSpace(text))
		}
	}
	for line := range strings.Lines(output) {
		if parts := strings.Split(strings.TrimSpace(line), "\t"); parts[0] == "!" && len(parts) == 3 {
			said = append(said, parts[2])
		}
	}
	if len(said) == 0 {
		return err
	}
	return errors.New(strings.Join(said, " "))
}
