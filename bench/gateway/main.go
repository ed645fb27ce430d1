// Command gateway measures what berth's gateway adds to a request to the model: the time to the first byte, and the
// pace of a stream, each through the gateway and past it in turns, in this run. The model is scripted, and answers at
// once. How long a ledger takes to open is measured by BenchmarkOpenLedger in internal/gateway.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"berth/internal/gateway"
	"berth/internal/scripted"
)

// targets are what the figures may be at most.
const (
	firstTarget  = 2.0  // of a request whose model answers at once, which none does
	streamTarget = 1.10 // of a stream at the pace of a model
)

// tokens is how long the measured replies are. A token is four bytes, and an event of its own.
const tokens = 2000

func main() {
	runs := flag.Int("runs", 200, "how many requests to take the median of")
	flag.Parse()
	if err := measure(context.Background(), *runs); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, runs int) error {
	dir, err := os.MkdirTemp("", "bench-gateway-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	text := strings.Repeat("word", tokens)
	server, err := scripted.New(scripted.Options{Keep: 1, Scripts: []scripted.Script{
		{Match: "paced", Steps: []scripted.Step{{Text: text, Chunk: 4, Pause: time.Millisecond}}},
		{Match: "fast", Steps: []scripted.Step{{Text: text, Chunk: 4}}},
	}})
	if err != nil {
		return err
	}
	address, stop, err := server.Listen(ctx, "")
	if err != nil {
		return err
	}
	defer stop()
	upstream, err := url.Parse(address)
	if err != nil {
		return err
	}
	ledger, err := gateway.OpenLedger(filepath.Join(dir, "spend"), "bench", gateway.Limits{DayUSD: 1e6, MonthUSD: 1e6}, time.Now)
	if err != nil {
		return err
	}
	g := gateway.New(gateway.Config{Upstream: upstream, NoKey: true, Ledger: ledger})
	defer g.Close()
	front := httptest.NewServer(g)
	defer front.Close()
	b := &bench{ours: front.URL, bare: address, token: g.Grant("bench", gateway.Budget{LimitUSD: 1e6})}
	return errors.Join(b.first(ctx, runs), b.pace(ctx), b.fast(ctx, max(runs/10, 1)))
}

type bench struct{ ours, bare, token string }

// taken is how long a request took.
type taken struct{ first, all time.Duration }

// ask streams a reply, and reads it to its end. The request is as long as one of Claude Code's is.
func (b *bench) ask(ctx context.Context, address, prompt string) (taken, error) {
	body := fmt.Sprintf(`{"model":"claude-sonnet-4-6","max_tokens":1000,"stream":true,"system":%q,"messages":[{"role":"user","content":%q}]}`,
		strings.Repeat("x", 60_000), prompt)
	began := time.Now()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/v1/messages", bytes.NewReader([]byte(body)))
	if err != nil {
		return taken{}, err
	}
	r.Header.Set("X-Api-Key", b.token)
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		return taken{}, err
	}
	defer reply.Body.Close() //nolint:errcheck // it was only read
	reader := bufio.NewReader(reply.Body)
	if _, err := reader.ReadByte(); err != nil || reply.StatusCode != http.StatusOK {
		return taken{}, fmt.Errorf("%s answers %s: %w", address, reply.Status, err)
	}
	first := time.Since(began)
	_, err = io.Copy(io.Discard, reader)
	return taken{first, time.Since(began)}, err
}

// inTurns asks through the gateway and past it, and returns the medians.
func (b *bench) inTurns(ctx context.Context, runs int, prompt string) (ours, bare taken, err error) {
	var all [2][2][]time.Duration
	for run := range runs + 1 {
		for side, address := range []string{b.ours, b.bare} {
			t, err := b.ask(ctx, address, prompt)
			if err != nil {
				return taken{}, taken{}, err
			}
			if run > 0 { // the first one makes the connections
				all[side][0], all[side][1] = append(all[side][0], t.first), append(all[side][1], t.all)
			}
		}
	}
	return taken{median(all[0][0]), median(all[0][1])}, taken{median(all[1][0]), median(all[1][1])}, nil
}

func (b *bench) first(ctx context.Context, runs int) error {
	ours, bare, err := b.inTurns(ctx, runs, "first")
	if err != nil {
		return err
	}
	fmt.Printf("time to the first byte through the gateway : past it, a request of 60 KB, the ledger on this disk\n  %.2f ms : %.2f ms = %.2f, %.2f ms more            target ≤ %.2f\n",
		ms(ours.first), ms(bare.first), ratio(ours.first, bare.first), ms(ours.first-bare.first), firstTarget)
	return nil
}

// pace compares streams of a thousand tokens a second, which is more than any model has.
func (b *bench) pace(ctx context.Context) error {
	ours, bare, err := b.inTurns(ctx, 3, "paced")
	if err != nil {
		return err
	}
	fmt.Printf("a stream of %d tokens, one a millisecond at most\n  %.0f : %.0f tokens/s, time %.3f            target ≤ %.2f\n",
		tokens, tokens/ours.all.Seconds(), tokens/bare.all.Seconds(), ratio(ours.all, bare.all), streamTarget)
	return nil
}

// fast compares streams that come as fast as they can, alone and eight at once: what there is in reserve.
func (b *bench) fast(ctx context.Context, runs int) error {
	ours, bare, err := b.inTurns(ctx, runs, "fast")
	if err != nil {
		return err
	}
	fmt.Printf("a stream of %d tokens as fast as it comes\n  %.0f : %.0f tokens/s, %.1f µs a token more\n",
		tokens, tokens/ours.all.Seconds(), tokens/bare.all.Seconds(), (ours.all-bare.all).Seconds()*1e6/tokens)
	const streams = 8
	var times [2]time.Duration
	for side, address := range []string{b.ours, b.bare} {
		var group sync.WaitGroup
		failed := make([]error, streams)
		began := time.Now()
		for index := range streams {
			group.Go(func() {
				for range runs {
					if _, err := b.ask(ctx, address, "fast"); err != nil {
						failed[index] = err
						return
					}
				}
			})
		}
		group.Wait()
		times[side] = time.Since(began)
		if err := errors.Join(failed...); err != nil {
			return err
		}
	}
	total := float64(streams * runs * tokens)
	fmt.Printf("%d of them at once\n  %.0f : %.0f tokens/s in all\n", streams, total/times[0].Seconds(), total/times[1].Seconds())
	return nil
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

func ratio(a, b time.Duration) float64 { return a.Seconds() / b.Seconds() }
