//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"berth/internal/api"
)

// follower is one connection. It looks at no more of an event than it has to: a thousand of them share this process with
// the model, and a machine with the agent.
type follower struct {
	endpoint api.Endpoint
	session  string
	client   *http.Client

	got   []time.Time // when each event came
	times []time.Time // when each event happened
	err   error
}

// run follows the session until the agent closes the stream. there is called when the first event has come.
func (f *follower) run(ctx context.Context, there func()) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.endpoint.URL+"/v1/sessions/"+f.session+"/events", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+f.endpoint.Token)
	response, err := f.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the agent answers %s", response.Status)
	}
	reader := bufio.NewReaderSize(response.Body, 16<<10)
	for {
		line, err := reader.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return errors.New("an event is too long for this program")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f.take(line); err != nil {
			return err
		}
		if len(f.times) == 1 {
			there()
		}
	}
}

// take takes note of a line of the stream.
func (f *follower) take(line []byte) error {
	if id, found := bytes.CutPrefix(line, []byte("id: ")); found {
		if index, err := strconv.Atoi(string(bytes.TrimSpace(id))); err != nil || index != len(f.got) {
			return fmt.Errorf("a follower was sent event %q in place of %d", id, len(f.got))
		}
		f.got = append(f.got, time.Now())
		return nil
	}
	data, found := bytes.CutPrefix(line, []byte("data: "))
	if !found {
		return nil
	}
	// {"type":"claude","time":"2026-01-02T03:04:05.006Z", …
	_, rest, found := bytes.Cut(data, []byte(`"time":`))
	end := bytes.IndexAny(rest, ",}")
	if !found || end < 0 {
		return fmt.Errorf("an event has no time: %.80s", data)
	}
	var at time.Time
	if err := json.Unmarshal(rest[:end], &at); err != nil {
		return err
	}
	f.times = append(f.times, at)
	return nil
}
