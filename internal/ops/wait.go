package ops

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"berth/internal/cloud"
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

// until looks until there is an end, or an error. Called off, it is ctx's error in any case.
func until(ctx context.Context, every time.Duration, look func(context.Context) (done bool, err error)) error {
	for {
		done, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil || done:
			return err
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}

// untilWithin is until for what comes to its end within a time, or not at all: late says then what has not come.
func untilWithin(ctx context.Context, every, limit time.Duration, late string, look func(context.Context) (done bool, err error)) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := until(limited, every, look)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%s after %s", late, limit)
	}
	return err
}

// untilTold is until for what goes on in AWS without berth: onward says so, and how to see it, to whoever interrupts the wait or loses
// the network.
func untilTold(ctx context.Context, every time.Duration, onward string, look func(context.Context) (done bool, err error)) error {
	err := until(ctx, every, look)
	switch {
	case ctx.Err() != nil:
		return &interruptedError{"interrupted; " + onward}
	case err != nil:
		return fmt.Errorf("%w; %s", err, onward)
	}
	return nil
}

// waitForStack describes a stack when CloudFormation is not at work on it any more. say tells what is waited for.
func waitForStack(ctx context.Context, client *cloud.Client, names contract.Names, every time.Duration, say func(string, ...any)) (stack *cloud.Stack, err error) {
	told := false
	err = until(ctx, every, func(ctx context.Context) (bool, error) {
		if stack, err = client.Stack(ctx, names); err != nil || !stack.InProgress() {
			return true, err
		}
		if !told {
			say("the stack is in %s; waiting for its end", stack.Status)
			told = true
		}
		return false, nil
	})
	return stack, err
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
