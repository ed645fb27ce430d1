package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"berth/internal/api"
)

const someID = "0190d3a0-0000-7000-8000-000000000001"

// life is the log of a session that has worked, and the record of each of its lines.
func life(t failer) (lines [][]byte, records []Record) {
	t.Helper()
	events := []api.Event{
		{Type: api.EventMessage, MessageID: "m0", Text: "do it"},
		{Type: api.EventState, State: api.Queued},
		{Type: api.EventState, State: api.Preparing},
		prepared,
		{Type: api.EventState, State: api.Running, Attempt: 1},
		claudeLine(`{"type":"assistant","message":{"id":"a"}}`),
		{Type: api.EventRequest, Request: &api.Request{Model: "x", CostUSD: 0.5}},
		{Type: api.EventCheckpoint, Checkpoint: &api.Checkpoint{Commit: "c", Tree: "t"}},
		claudeLine(`{"type":"result","result":"done","total_cost_usd":0.5}`),
		{Type: api.EventState, State: api.Succeeded},
	}
	clock := newClock()
	record := Record{Version: Version, Session: api.Session{ID: someID, Prompt: "do it"}}
	for _, event := range events {
		event.Time, event.Epoch = clock.now(), 1
		must(t, record.apply(&event))
		line, err := marshal(event)
		must(t, err)
		record.noteLine(line)
		lines, records = append(lines, line), append(records, record)
	}
	return lines, records
}

// place writes a session's files, and returns its directory.
func place(t *testing.T, record *Record, files map[string][]byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), someID)
	must(t, os.Mkdir(dir, 0o700))
	snapshot, err := json.Marshal(record)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, snapshotFile), snapshot, 0o600))
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	return dir
}

// FuzzDamage damages the log of a session, below a snapshot of any of its moments: a byte is changed, the end is missing, and
// something else is there. The session is broken and its log left alone; or it opens, takes events, and is the same when it is
// opened again. What the snapshot says is what the log adds up to, unless the damage lies where it looks no more.
func FuzzDamage(f *testing.F) {
	lines, records := life(f)
	log := bytes.Join(lines, nil)
	last := len(lines[len(lines)-1])
	for _, snapshot := range []int{0, 1, 4, 5, 8, 9} {
		size := int(records[snapshot].LogSize)
		for _, cut := range []int{0, 1, last - 1, last, last + 1, len(log) - size, len(log) - size + 1, len(log) - 1, len(log)} {
			f.Add(uint8(snapshot), uint16(0), byte(0), uint16(max(cut, 0)), []byte(nil))
		}
		for _, at := range []int{0, size - 1, size - 5, size, size + 1, len(log) - 1, len(log) - last} {
			f.Add(uint8(snapshot), uint16(max(at, 0)), byte(1), uint16(0), []byte(nil))
			f.Add(uint8(snapshot), uint16(max(at, 0)), byte('\n'), uint16(3), []byte("\x00\x00\x00\n"))
		}
		f.Add(uint8(snapshot), uint16(0), byte(0), uint16(0), lines[1])
		f.Add(uint8(snapshot), uint16(0), byte(0), uint16(5), []byte("\x00\x00"))
		f.Add(uint8(snapshot), uint16(0), byte(0), uint16(0), []byte(`{"type":"notice","epoch":9223372036854775807}`+"\n"))
		f.Add(uint8(snapshot), uint16(0), byte(0), uint16(0), []byte(`{"type":"notice","epoch":-1,"time":"9999-12-31T23:59:59.999Z"}`+"\n"))
	}
	f.Fuzz(func(t *testing.T, snapshot uint8, at uint16, flip byte, cut uint16, tail []byte) {
		record := records[int(snapshot)%len(records)]
		damaged := bytes.Clone(log)
		where := int64(at) % int64(len(damaged))
		damaged[where] ^= flip
		damaged = append(damaged[:len(damaged)-int(cut)%(len(damaged)+1)], tail...)
		dir := place(t, &record, map[string][]byte{logFile: damaged})
		s, err := open(dir, newClock().now, self())
		if err == nil {
			err = s.Append(api.Event{Type: api.EventNotice, Text: "it goes on"})
		}
		if err != nil {
			left, readErr := os.ReadFile(filepath.Join(dir, logFile))
			must(t, readErr)
			if !bytes.HasPrefix(damaged, left) || len(left) < bytes.LastIndexByte(damaged, '\n')+1 && !bytes.Contains(damaged[len(left):], []byte{0}) {
				t.Fatalf("the log of a broken session was changed: %v", err)
			}
			if flip == 0 && len(tail) == 0 && bytes.Contains(damaged, []byte(`"queued"}`+"\n")) {
				t.Fatalf("a log that was only cut off is taken for damaged: %v", err)
			}
			return
		}
		unseen := flip != 0 && where < record.LogSize-record.LastLine && s.Record().LogSize >= record.LogSize
		if !unseen {
			consistent(t, s)
		}
		again, err := open(dir, newClock().now, self())
		must(t, err)
		must(t, again.Append(api.Event{Type: api.EventNotice, Text: "and on"}))
		must(t, s.Refresh())
		if difference := cmp.Diff(s.Record(), again.Record(), cmpopts.IgnoreFields(Record{}, "LastLine", "LastSum")); difference != "" {
			t.Fatalf("opened again it is another one:\n%s", difference)
		}
		if !unseen {
			if texts := notes(t, again); len(texts) < 2 || strings.Join(texts[len(texts)-2:], ", ") != "it goes on, and on" {
				t.Fatalf("its notices are %q", texts)
			}
		}
	})
}

// FuzzLease puts anything in the place of a session's leases. It keeps nobody out for longer than a lease lasts; and two
// daemons never have the session at the same time.
func FuzzLease(f *testing.F) {
	lines, records := life(f)
	log, record := bytes.Join(lines, nil), records[len(records)-1]
	addLeases(f)
	f.Fuzz(func(t *testing.T, renewed, claimed []byte, name string) {
		if name == "" || len(name) > 100 || strings.ContainsAny(name, "/\x00") || claimPrefix+name == leaseFile {
			name = "3"
		}
		files := map[string][]byte{logFile: log}
		if renewed != nil {
			files[leaseFile] = renewed
		}
		if claimed != nil {
			files[claimPrefix+name] = claimed
		}
		dir := place(t, &record, files)
		var later time.Duration
		clock := func() time.Time { return time.Now().Add(later) }
		ours, err := open(dir, clock, self())
		must(t, err)
		theirs, err := open(dir, clock, self())
		must(t, err)
		release, err := ours.Hold()
		if leased := new(LeasedError); errors.As(err, &leased) {
			later = LeaseTime + time.Second // in which nobody renewed it
			release, err = ours.Hold()
		}
		must(t, err)
		if _, err := theirs.Hold(); !errors.As(err, new(*LeasedError)) {
			t.Fatalf("a second one has it: %v", err)
		}
		must(t, ours.Append(api.Event{Type: api.EventNotice, Text: "ours"}))
		release()
		for turn, each := range []*Session{theirs, ours, theirs} {
			must(t, each.Append(api.Event{Type: api.EventNotice, Text: fmt.Sprint("turn ", turn)}))
			if texts := notes(t, each); len(texts) != turn+2 {
				t.Fatalf("after turn %d there are %q", turn, texts)
			}
			consistent(t, each)
		}
	})
}

// addLeases adds leases of all kinds, renewed and claimed.
func addLeases(f *testing.F) {
	f.Helper()
	now := time.Now()
	written := func(epoch int, renewed time.Time, owner Owner) []byte {
		text, err := json.Marshal(lease{Owner: owner, Epoch: epoch, Renewed: renewed})
		must(f, err)
		return text
	}
	good := written(3, now, Owner{ID: "another"})
	for _, renewed := range [][]byte{
		nil,
		{},
		[]byte("{"), []byte("null"), good, good[:len(good)/2], []byte("\x00\x00\x00"), written(3, now.Add(-time.Hour), Owner{}),
		written(3, now.AddDate(100, 0, 0), Owner{}), written(1<<62, now, Owner{}), written(-5, now, Owner{}), written(9223372036854775807, now, Owner{}),
		written(3, now, self()), written(3, now, Owner{PID: -1, Boot: "x", Space: "y", Started: "z"}),
	} {
		f.Add(renewed, []byte(nil), "3")
		f.Add([]byte(nil), renewed, "3")
	}
	for _, claimed := range [][]byte{{}, good, written(7, now, Owner{}), written(2, now.AddDate(-100, 0, 0), Owner{})} {
		for _, name := range []string{"3", "2", "9223372036854775807", "0", "-1", "99999999999999999999", "03"} {
			f.Add(good, claimed, name)
		}
	}
}
