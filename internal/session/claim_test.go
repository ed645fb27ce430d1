package session

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"berth/internal/api"
)

// follower opens a session as another daemon does, by whose clock the lease of its owner has run out.
func follower(t *testing.T, s *Session) *Session {
	t.Helper()
	other, err := open(s.dir, func() time.Time { return s.now().Add(2 * LeaseTime) }, self())
	must(t, err)
	return other
}

// An owner that was stopped in the middle of a renewal, and followed, does not bring itself back with it.
func TestALateRenewalChangesNobodyElses(t *testing.T) {
	t.Parallel()
	_, s := one(t)
	held(t, s)
	late := s.held()
	other := follower(t, s)
	held(t, other)
	late.mu.Lock()
	late.lease.Renewed = s.now().Add(time.Hour)
	must(t, late.save()) // it had looked before it was stopped
	late.mu.Unlock()
	current, _, err := readLease(s.dir)
	must(t, err)
	if current.Owner.ID != other.owner.ID || current.Epoch != other.held().epoch || current.Renewed.After(s.now().Add(3*LeaseTime)) {
		t.Errorf("the lease is %+v", current)
	}
	must(t, other.renewHeld())
	if err := s.renewHeld(); !errors.Is(err, ErrLost) {
		t.Errorf("the error is %v", err)
	}
}

// An NFS client may remember where a name led, and opens the file by its handle. So it is for an owner that was followed, here with the
// name put back.
func TestARememberedNameIsNoClaim(t *testing.T) {
	t.Parallel()
	_, s := one(t)
	held(t, s)
	claimed := s.held()
	if claimed.names != 2 {
		t.Fatalf("the claim has %d names: tests need a file system with hard links; set TMPDIR", claimed.names)
	}
	spare := filepath.Join(t.TempDir(), "spare")
	must(t, os.Link(claimed.path, spare))
	must(t, claimed.verify())
	other := follower(t, s)
	held(t, other)
	must(t, os.Rename(spare, claimed.path))
	if err := s.renewHeld(); !errors.Is(err, ErrLost) {
		t.Errorf("the error is %v", err)
	}
	if err := s.Append(api.Event{Type: api.EventMessage, Text: "late"}); !errors.Is(err, ErrLost) {
		t.Errorf("the error is %v", err)
	}
	must(t, other.renewHeld())
}

// lease.json is the claim by another name, also after it was renewed.
func TestTheLeaseSaysWhoHasTheSession(t *testing.T) {
	t.Parallel()
	_, s := one(t)
	held(t, s)
	must(t, s.renewHeld())
	read, err := readLeaseFile(filepath.Join(s.dir, leaseFile))
	must(t, err)
	if read == nil || read.Owner != s.owner || read.Epoch != s.held().epoch || !read.Renewed.Equal(s.held().lease.Renewed) {
		t.Errorf("it is %+v", read)
	}
}

// Agents of before renewed lease.json alone, which was a file of its own.
func TestALeaseOfAnEarlierAgentKeepsOthersOut(t *testing.T) {
	t.Parallel()
	_, s := one(t)
	elsewhere := `{"owner":{"id":"other"},"epoch":2,"renewed":"2026-01-02T03:00:00Z"}`
	renewed := `{"owner":{"id":"other"},"epoch":2,"renewed":"` + s.now().Format(time.RFC3339Nano) + `"}`
	must(t, os.WriteFile(claimFile(s.dir, 2), []byte(elsewhere), 0o600))
	must(t, os.WriteFile(filepath.Join(s.dir, leaseFile), []byte(renewed), 0o600))
	leased := new(LeasedError)
	if _, err := s.Hold(); !errors.As(err, &leased) || leased.Owner != "other" {
		t.Errorf("the error is %v", err)
	}
	other := follower(t, s)
	held(t, other)
	if epoch := other.held().epoch; epoch != 3 || !missing(claimFile(s.dir, 2)) {
		t.Errorf("its epoch is %d, or the earlier claim is still there", epoch)
	}
}

// A daemon was killed when it had just claimed the session of one that may come back: who follows it must not take the files
// for its own because the killed one is known to be dead.
func TestWhoFollowsADeadFollowerTakesCopies(t *testing.T) {
	t.Parallel()
	if started(os.Getpid()) == "" {
		t.Skip("nobody can tell on this system who is dead: the lease keeps others out")
	}
	_, s := one(t)
	held(t, s)
	must(t, s.KeepTranscript(0, []byte("one\n")))
	dead := self()
	dead.Started = "long ago"
	between, err := makeClaim(s.dir, lease{Owner: dead, Epoch: s.held().epoch + 1, Renewed: s.now()})
	must(t, err)
	must(t, os.Remove(s.held().path))
	between.leave()
	other, err := open(s.dir, s.now, self())
	must(t, err)
	must(t, other.Append(api.Event{Type: api.EventNotice, Text: "mine"}))
	before := logOf(t, other)
	// What the first one was about to write when it was stopped.
	must(t, s.log.append([]byte("{\"type\":\"notice\",\"text\":\"late\"}\n"), true))
	must(t, s.transcript.write(4, []byte("late\n")))
	after := logOf(t, other)
	transcript, err := os.ReadFile(other.TranscriptFile())
	must(t, err)
	if !bytes.Equal(before, after) || string(transcript) != "one\n" {
		t.Errorf("it wrote to the log, which is\n%s\nor to the transcript, which is %q", after, transcript)
	}
}

// A follower that is stopped before it puts its copies in place, and is followed, puts nothing in place when it wakes.
func TestALateCopyIsNotPutInPlace(t *testing.T) {
	t.Parallel()
	_, s := one(t)
	slow, err := makeClaim(s.dir, lease{Owner: self(), Epoch: 7, Renewed: s.now()})
	must(t, err)
	copied := filepath.Join(s.dir, swapPrefix+"7-"+logFile)
	must(t, os.WriteFile(copied, logOf(t, s), 0o600))
	other := follower(t, s)
	must(t, other.Append(api.Event{Type: api.EventNotice, Text: "mine"}))
	if err := os.Rename(copied, s.log.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it put the old log in place: %v", err)
	}
	if err := s.swap(logFile, slow); !errors.Is(err, ErrLost) {
		t.Errorf("the error is %v", err)
	}
	if texts := notes(t, other); len(texts) != 1 {
		t.Errorf("the notes are %q", texts)
	}
}

// A claim that came too late, because its maker knew an old state of the directory, gives way.
func TestALaterClaimIsNotFollowed(t *testing.T) {
	t.Parallel()
	_, s := one(t)
	other := follower(t, s)
	held(t, other)
	must(t, os.Rename(other.held().path, claimFile(s.dir, 9)))
	late, err := makeClaim(s.dir, lease{Owner: s.owner, Epoch: 5, Renewed: s.now()})
	must(t, err)
	if newest, err := s.follow(late); newest || err != nil || missing(claimFile(s.dir, 9)) {
		t.Errorf("it is the newest: %v, %v", newest, err)
	}
	late.leave()
}

// A takeover that fails midway leaves no doubt: the next one begins anew, at once.
func TestAFailedTakeoverIsTriedAgain(t *testing.T) {
	t.Parallel()
	_, s := one(t)
	other := follower(t, s)
	transcript := other.TranscriptFile()
	must(t, os.Mkdir(transcript, 0o700)) // which nobody can open for writing
	if err := other.Append(api.Event{Type: api.EventNotice, Text: "mine"}); err == nil {
		t.Fatal("it took a directory for a transcript")
	}
	must(t, os.Remove(transcript))
	must(t, s.Append(api.Event{Type: api.EventNotice, Text: "ours"}))
	if current, leftover, err := readLease(s.dir); current != nil || leftover || err != nil {
		t.Errorf("left are %+v, %v, %v", current, leftover, err)
	}
}

// Whoever asks how a session stands, or renews its lease, does not wait while its files are copied or written.
func TestNobodyWaitsForTheDiskToSeeHowASessionStands(t *testing.T) {
	t.Parallel()
	store, s := one(t)
	held(t, s)
	s.writing.Lock()
	s.log.writing.Lock()
	defer s.writing.Unlock()
	defer s.log.writing.Unlock()
	if s.State() != api.Queued || s.Record().ID != s.ID() || len(store.List()) != 1 || store.Get(s.ID()) != s {
		t.Error("it is another one")
	}
	must(t, errors.Join(s.renewHeld(), s.Verify(), s.Refresh()))
	lines := 0
	for _, err := range s.Events(t.Context(), 0, false) {
		must(t, err)
		lines++
	}
	if lines != 2 {
		t.Errorf("it has %d events", lines)
	}
}
