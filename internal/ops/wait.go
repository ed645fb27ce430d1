package ops

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/internal/contract"
)

// pause waits, unless it is interrupted.
func pause(ctx context.Context, every time.Duration) error {
	timer := time.NewTimer(every)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// until looks until there is an end. onward says what goes on in AWS without berth, and how to see it: whoever interrupts the wait,
// or loses the network, is told.
func until(ctx context.Context, every time.Duration, onward string, look func(context.Context) (done bool, err error)) error {
	for {
		done, err := look(ctx)
		if err == nil && !done {
			err = pause(ctx, every)
		}
		switch {
		case ctx.Err() != nil:
			return &interruptedError{"interrupted; " + onward}
		case err != nil:
			return fmt.Errorf("%w; %s", err, onward)
		case done:
			return nil
		}
	}
}

// confirmName asks for the stack's name before something is deleted.
func confirmName(ctx context.Context, stdio Stdio, names contract.Names, yes bool) error {
	if yes {
		return nil
	}
	fmt.Fprintf(stdio.Err, "Type the stack's name, %s, to go on: ", names.Stack())
	answer := make(chan string, 1)
	go func() { // a read cannot be interrupted; the process ends without it
		line, _ := bufio.NewReader(stdio.In).ReadString('\n')
		answer <- line
	}()
	select {
	case line := <-answer:
		if !strings.HasSuffix(line, "\n") {
			fmt.Fprintln(stdio.Err)
		}
		if strings.TrimSpace(line) == names.Stack() {
			return nil
		}
		return &UsageError{errors.New("that is not the stack's name, so nothing was done; in a script, give --yes")}
	case <-ctx.Done():
		fmt.Fprintln(stdio.Err)
		return &interruptedError{"interrupted; nothing was done"}
	}
}
