package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"berth/internal/api"
)

// Open is the verb `berth open`: it makes the agent's API answer on this machine, for as long as it runs.
type Open struct {
	Target
	Port int  `name:"port" placeholder:"PORT" help:"The port to listen at; a free one without it."`
	JSON bool `name:"json" help:"Write the address and the token that the API asks for, as a JSON object."`
}

// Help is the long help.
func (Open) Help() string {
	return `Listens on 127.0.0.1 only, and passes each connection on to the agent, until Ctrl-C. The address is all that goes to standard
output. Whoever connects has to show the agent's token, which --json tells: keep it to yourself. The agent on this machine
answers there without this: its address and token are in endpoint.json on its volume.

Examples:
  berth open --env dev
  berth open --env dev --port 8787 --json > endpoint.json
  curl -H "Authorization: Bearer $(jq -r .token endpoint.json)" http://127.0.0.1:8787/v1/status

Exit codes: 1 it cannot listen, or AWS refuses; 2 a flag cannot be used; 3 the agent cannot be reached; 130 Ctrl-C.`
}

// Run passes connections on.
func (o *Open) Run(ctx context.Context, stdio Stdio) error {
	if err := o.needsEnv("open"); err != nil {
		return err
	}
	if o.Port < 0 || o.Port > 65535 {
		return &UsageError{fmt.Errorf("--port: %d is no port; take one from 1 to 65535", o.Port)}
	}
	client, err := o.reach(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.Status(ctx); err != nil { // what is wrong is told now, and not to a browser
		return err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.Port)))
	if err != nil {
		return fmt.Errorf("cannot listen: %w; --port takes another port, a free one without it", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() }) // which ends the loop below
	defer stop()
	endpoint := api.Endpoint{URL: "http://" + listener.Addr().String(), Token: client.Endpoint().Token}
	if o.JSON {
		err = writeJSON(stdio.Out, endpoint)
	} else {
		_, err = fmt.Fprintln(stdio.Out, endpoint.URL)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(stdio.Err, "berth: the agent in %s answers there until Ctrl-C\n", o.names().Stack())
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		from, err := listener.Accept()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("no connection is taken any more: %w", err)
		}
		connections.Go(func() {
			if err := passOn(ctx, from, client); err != nil {
				fmt.Fprintln(stdio.Err, "berth: "+Lines(err)[0])
			}
		})
	}
}

// passOn copies between a connection and the agent until one of the two ends, or ctx is done.
func passOn(ctx context.Context, from net.Conn, client *api.Client) error {
	defer func() { _ = from.Close() }() // it is over
	to, err := client.Dial(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	closing := func() { _ = errors.Join(from.Close(), to.Close()) } // which ends both of the copies
	defer context.AfterFunc(ctx, closing)()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		both.Go(func() {
			defer cancel()
			_, _ = io.Copy(way[0], way[1]) // either end may break off; whoever is at the other one sees it
		})
	}
	both.Wait()
	closing()
	return nil
}
