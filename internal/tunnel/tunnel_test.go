package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"berth/internal/tunnel/ssmtest"
)

// world is a stand-in, and a client of something that listens, through a tunnel to it.
func world(t *testing.T, handler http.Handler) (*ssmtest.Server, *http.Client) {
	t.Helper()
	server := ssmtest.New()
	t.Cleanup(server.Close)
	behind := httptest.NewServer(handler)
	t.Cleanup(behind.Close)
	tunnel := New(func(context.Context) (Session, error) {
		return Session(server.Forward(ssmtest.To(behind.Listener.Addr().String()))), nil
	})
	t.Cleanup(tunnel.Close)
	return server, through(tunnel)
}

func through(tunnel *Tunnel) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return tunnel.Dial(ctx) },
	}}
}

func get(client *http.Client, url string) (string, error) {
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }() // it is read
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

func TestManyConnections(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 1<<14)
	server, client := world(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d %s", r.URL.Path, len(body), large)
	}))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			response, err := client.Post(fmt.Sprintf("http://127.0.0.1/%d", i), "text/plain", strings.NewReader(large))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = response.Body.Close() }() // it is read
			if got, err := io.ReadAll(response.Body); string(got) != fmt.Sprintf("/%d %d %s", i, len(large), large) {
				t.Errorf("connection %d gets %.40q (%d bytes), %v", i, got, len(got), err)
			}
		})
	}
	all.Wait()
	if got := server.Opened(); got != 1 {
		t.Errorf("%d sessions were started for them, not 1", got)
	}
}

// What ends a session ends its connections, and the next one is made over another session.
func TestAnotherSession(t *testing.T) {
	for name, end := range map[string]func(*ssmtest.Server){
		"network":         (*ssmtest.Server).Cut,
		"Session Manager": func(s *ssmtest.Server) { s.End("Your session timed out") },
		"without reason":  func(s *ssmtest.Server) { s.End("") },
	} {
		t.Run(name, func(t *testing.T) {
			hold := make(chan struct{})
			defer close(hold)
			server, client := world(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintln(w, "begun")
				if r.URL.Path == "/long" {
					_ = http.NewResponseController(w).Flush()
					<-hold
				}
			}))
			response, err := client.Get("http://127.0.0.1/long")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }() // broken off
			end(server)
			if _, err := io.ReadAll(response.Body); err == nil || strings.Contains(name, "Session") && !strings.Contains(err.Error(), "Your session timed out") {
				t.Errorf("a connection of the session that is over ends with %v", err)
			}
			if got, err := get(client, "http://127.0.0.1/short"); got != "begun\n" {
				t.Errorf("the next connection gets %q, %v", got, err)
			}
			if got := server.Opened(); got != 2 {
				t.Errorf("%d sessions were opened, not 2", got)
			}
		})
	}
}

func TestNothingListens(t *testing.T) {
	server := ssmtest.New()
	defer server.Close()
	nobody := func(context.Context) (net.Conn, error) { return nil, errors.New("connection refused") }
	tunnel := New(func(context.Context) (Session, error) { return Session(server.Forward(nobody)), nil })
	defer tunnel.Close()
	if _, err := get(through(tunnel), "http://127.0.0.1/"); !errors.Is(err, errRefused) {
		t.Errorf("where nothing listens: %v", err)
	}
}

func TestNoSession(t *testing.T) {
	server := ssmtest.New()
	defer server.Close()
	denied := errors.New("denied")
	good := Session(server.Forward(ssmtest.To("127.0.0.1:1")))
	for name, each := range map[string]struct {
		start Start
		want  string
	}{
		"not started":   {func(context.Context) (Session, error) { return Session{}, denied }, "denied"},
		"another token": {func(context.Context) (Session, error) { return Session{URL: good.URL, Token: "x"}, nil }, "bad token"},
		"another id": {func(context.Context) (Session, error) {
			return Session{URL: strings.Replace(good.URL, "test-", "other-", 1)}, nil
		}, "400 Bad Request"},
		"no websocket":   {func(context.Context) (Session, error) { return Session{URL: "http://127.0.0.1/"}, nil }, "for a websocket"},
		"nobody there":   {func(context.Context) (Session, error) { return Session{URL: "ws://127.0.0.1:1/"}, nil }, "cannot connect to 127.0.0.1:1"},
		"not for a port": {func(context.Context) (Session, error) { return Session(server.Command("cat")), nil }, "InteractiveCommands"},
	} {
		tunnel := New(each.start)
		_, err := tunnel.Dial(t.Context())
		if err == nil || !strings.Contains(err.Error(), each.want) {
			t.Errorf("%s: %v, which does not tell of %q", name, err, each.want)
		}
		if err != nil && good.Token != "" && strings.Contains(err.Error(), good.Token) {
			t.Errorf("%s: the error tells the token: %v", name, err)
		}
		tunnel.Close()
		if _, err := tunnel.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: a closed tunnel says %v", name, err)
		}
	}
}

func TestACommand(t *testing.T) {
	server := ssmtest.New()
	defer server.Close()
	for name, each := range map[string]struct {
		args  []string
		input string
		code  int
		want  string
	}{
		"output":     {[]string{"printf", `%s|`, "a b", "it's", `"$HOME"`}, "", 0, `a b|it's|"$HOME"|`},
		"exit code":  {[]string{"sh", "-c", "echo out; exit 7"}, "", 7, "out\r\n"},
		"input":      {[]string{"sh", "-c", "stty -echo; echo go; read line; echo got $line"}, "some words\n", 0, "got some words\r\n"},
		"size":       {[]string{"sh", "-c", "until [ \"$(stty size)\" = '50 132' ]; do :; done; stty size"}, "", 0, "50 132\r\n"},
		"no program": {[]string{"/no/such/program"}, "", 127, "not found"},
		"signal":     {[]string{"sh", "-c", "kill -9 $$"}, "", 137, ""},
	} {
		t.Run(name, func(t *testing.T) {
			command, mark := Wrap(each.args)
			var out bytes.Buffer
			code, err := Run(t.Context(), Session(server.Command(command)), Terminal{
				In: strings.NewReader(each.input), Out: &out, Size: func() (int, int) { return 132, 50 },
			}, mark)
			if code != each.code || err != nil || !strings.Contains(out.String(), each.want) || strings.Contains(out.String(), "\x1f") {
				t.Errorf("it ends with %d, %v, and says %q", code, err, out.String())
			}
		})
	}
}

// A command that cannot tell its exit code, one that is cut off, and one that is called off.
func TestACommandCutOff(t *testing.T) {
	server := ssmtest.New()
	defer server.Close()
	for name, each := range map[string]struct {
		end  func(cancel func())
		want string
	}{
		"cut off":    {func(func()) { server.Cut() }, "is lost"},
		"closed":     {func(func()) { server.End("idle for too long") }, "idle for too long"},
		"called off": {func(cancel func()) { cancel() }, context.Canceled.Error()},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		began := make(chan struct{})
		out := writerFunc(func(part []byte) (int, error) {
			if bytes.Contains(part, []byte("begun")) {
				close(began)
			}
			return len(part), nil
		})
		go func() {
			<-began
			each.end(cancel)
		}()
		code, err := Run(ctx, Session(server.Command("sh -c 'echo begun; exec sleep 600'")), Terminal{In: &blocked{ctx}, Out: out}, "")
		if code != -1 || err == nil || !strings.Contains(err.Error(), each.want) {
			t.Errorf("%s: %d, %v", name, code, err)
		}
		cancel()
	}
	if code, err := Run(t.Context(), Session(server.Command("true")), Terminal{In: strings.NewReader(""), Out: io.Discard}, ""); code != -1 || err != nil {
		t.Errorf("without a mark: %d, %v", code, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(part []byte) (int, error) { return f(part) }

// blocked is a terminal at which nobody types.
type blocked struct{ ctx context.Context }

func (b *blocked) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, io.EOF
}
