//go:build e2e

package local

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/internal/api"
	"berth/internal/scripted"
)

// A follower whose connection is cut at random bytes sees every event once, in order.
func TestFollowerThatIsCutOff(t *testing.T) {
	t.Parallel()
	var steps []scripted.Step
	for number := range 30 {
		steps = append(steps, scripted.Use(scripted.Bash(fmt.Sprintf("head -c 20000 /dev/zero | tr '\\0' x; echo did %d.", number))))
	}
	a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: append(steps, scripted.Text("Done."))}}})
	endpoint, err := api.ReadEndpoint(a.data)
	if err != nil {
		t.Fatal(err)
	}
	session := a.create(api.NewSession{Prompt: "do it"})

	cutting := endpoint
	proxy := newCutter(t, endpoint.URL)
	cutting.URL = "http://" + proxy.Addr().String()
	var seen []api.Event
	for event, err := range api.NewClient(cutting).Events(t.Context(), session.ID, 0, true) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, event)
	}
	if ended := a.end(session.ID); ended.State != api.Succeeded {
		t.Errorf("it is %s: %+v", ended.State, ended.Error)
	}
	all := a.events(session.ID)
	if len(seen) != len(all) {
		t.Fatalf("the follower saw %d of %d events", len(seen), len(all))
	}
	for index, event := range seen {
		if event.ID != index || string(event.Claude) != string(all[index].Claude) {
			t.Errorf("event %d came as %d", index, event.ID)
		}
	}
	if len(proxy.cuts) == 0 {
		t.Error("no connection was cut")
	}
	t.Logf("%d connections were cut; %d events; %.1f s", len(proxy.cuts), len(all), all[len(all)-1].Time.Sub(all[0].Time).Seconds())
}

// One that does not read at all slows nothing: the session ends while megabytes wait for the follower, more than what lies
// between the two can hold.
func TestFollowerThatDoesNotRead(t *testing.T) {
	t.Parallel()
	const size, count = 1 << 20, 12
	var steps []scripted.Step
	for number := range count {
		steps = append(steps, scripted.Step{
			Text: strings.Repeat("word ", size/5), Tools: []scripted.Tool{scripted.Bash(fmt.Sprintf("echo did %d.", number))},
			Usage: scripted.Usage{Input: 1000, Output: 100}, // by its true size it would be compacted
		})
	}
	a := newAgent(t, scripted.Options{Scripts: []scripted.Script{{Steps: append(steps, scripted.Text("Done."))}}})
	endpoint, err := api.ReadEndpoint(a.data)
	if err != nil {
		t.Fatal(err)
	}
	session := a.create(api.NewSession{Prompt: "do it"})
	stuck := a.connectWithoutReading(endpoint, session.ID)
	defer stuck.Close() //nolint:errcheck // little is read from it

	ended := a.endUnseen(session.ID)
	if ended.State != api.Succeeded {
		t.Errorf("it is %s: %+v", ended.State, ended.Error)
	}
	events, err := os.Stat(filepath.Join(a.data, "sessions", session.ID, "events.jsonl"))
	if err != nil || events.Size() < count*size {
		t.Errorf("the follower had nothing to wait for: %v, %v", events, err)
	}
	response, err := http.ReadResponse(bufio.NewReader(stuck), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // likewise
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil || line != "id: 0\n" {
		t.Errorf("at last the follower reads %q: %v", line, err)
	}
}

// endUnseen waits until a session has ended, without its events.
func (a *agent) endUnseen(id string) (session *api.Session) {
	a.t.Helper()
	a.eventually("the session ends", func() bool {
		now, err := a.client.Session(a.t.Context(), id)
		if err != nil {
			a.t.Fatal(err)
		}
		session = now
		return now.State.Ended()
	})
	return session
}

// connectWithoutReading asks for a session's events and reads none of them.
func (a *agent) connectWithoutReading(endpoint api.Endpoint, id string) net.Conn {
	a.t.Helper()
	target, err := url.Parse(endpoint.URL)
	if err != nil {
		a.t.Fatal(err)
	}
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
		}), err)
	}}
	conn, err := dialer.DialContext(a.t.Context(), "tcp", target.Host)
	if err != nil {
		a.t.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodGet, endpoint.URL+"/v1/sessions/"+id+"/events", nil)
	if err != nil {
		a.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+endpoint.Token)
	if err := request.Write(conn); err != nil {
		a.t.Fatal(err)
	}
	return conn
}

// cutter passes connections on to a server, and cuts each off after some bytes.
type cutter struct {
	net.Listener
	cuts chan struct{}
}

func newCutter(t *testing.T, server string) *cutter {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	c := &cutter{Listener: listener, cuts: make(chan struct{}, 10_000)}
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go c.pass(from, target.Host)
		}
	}()
	return c
}

func (c *cutter) pass(from net.Conn, server string) {
	defer from.Close() //nolint:errcheck // it is to be cut off
	to, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer to.Close() //nolint:errcheck // likewise
	go func() { _, _ = io.Copy(to, from) }()
	limit := int64(2_000 + rand.IntN(150_000))
	if copied, _ := io.CopyN(from, to, limit); copied == limit {
		c.cuts <- struct{}{}
	}
}

// touch makes a file in a session's work dir.
func (a *agent) touch(id, name string) {
	a.t.Helper()
	session, err := a.client.Session(a.t.Context(), id)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(session.WorkDir, name), nil, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// The events' own server: `Last-Event-ID` by hand, as any other client would send it.
func TestLastEventID(t *testing.T) {
	a := newAgent(t, scripted.Options{})
	session := a.create(api.NewSession{Prompt: "say something"})
	ended := a.end(session.ID)
	endpoint, err := api.ReadEndpoint(a.data)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, endpoint.URL+"/v1/sessions/"+session.ID+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+endpoint.Token)
	request.Header.Set("Last-Event-ID", fmt.Sprint(ended.Events-3))
	client := http.Client{Timeout: time.Minute}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, wanted := range []string{fmt.Sprintf("id: %d\n", ended.Events-2), fmt.Sprintf("id: %d\n", ended.Events-1), `"state":"succeeded"`} {
		if !strings.Contains(string(text), wanted) {
			t.Errorf("%q is missing in\n%s", wanted, text)
		}
	}
	if strings.Count(string(text), "id: ") != 2 {
		t.Errorf("there are more events than were missed:\n%s", text)
	}
}
