package gateway

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"

	"berth/internal/contract"
)

const (
	// probeEvery is how often a key that is refused is tried again.
	probeEvery = time.Minute
	// probeTime is how long that may take.
	probeTime = 15 * time.Second
	// watchEvery is how often somebody looks whether there is another key in place of one that is refused.
	watchEvery = 2 * time.Second
)

// keeper has the API key, and knows whether the API takes it.
//
//	missing  <->  set        as Config.Key says
//	set       ->  refused    the API answers 401, or 403 and a probe does not say otherwise
//	refused   ->  set        a probe is answered, by anything but 401, 403 and errors that pass
//	any      <->  refused    the key cannot be one, as it has a space within
type keeper struct {
	read      func() string
	notNeeded bool
	// probe asks the API, at no cost, whether it takes a key. sure is false if it does not answer.
	probe func(ctx context.Context, key string) (taken, sure bool, why string)
	log   *slog.Logger

	lock    sync.Mutex
	refused bool
	why     string
	since   time.Time
	probed  string    // the key that was last tried, or refused
	last    time.Time // when
	probing bool
	changed chan struct{} // closed when a probe is over
	watched bool
	closed  chan struct{}
	once    sync.Once
}

func (k *keeper) close() { k.once.Do(func() { close(k.closed) }) }

// current is the key as it is now, and what is wrong with it by itself.
func (k *keeper) current() (key, wrong string) {
	if k.read == nil {
		return "", ""
	}
	key = strings.TrimSpace(k.read())
	for _, char := range key {
		if char > unicode.MaxASCII || unicode.IsSpace(char) || unicode.IsControl(char) {
			return "", "the API key has a space, a line break or another character in it that no key has: set it again, and nothing but it"
		}
	}
	return key, ""
}

// state returns the key, if it can be used, and how it is.
func (k *keeper) state() (key string, state KeyState) {
	key, wrong := k.current()
	k.lock.Lock()
	defer k.lock.Unlock()
	switch {
	case wrong != "":
		if k.since.IsZero() {
			k.since = time.Now()
		}
		return "", KeyState{State: "refused", Why: wrong, Since: k.since}
	case key == "" && k.notNeeded:
		return "", KeyState{State: "not needed"}
	case key == "":
		return "", KeyState{State: "missing"}
	case k.refused:
		return "", KeyState{State: "refused", Why: k.why, Since: k.since}
	default:
		k.since = time.Time{}
		return key, KeyState{State: "set"}
	}
}

// usable returns the key for a request. Where another one is in the place of one that was refused, it is tried first.
func (k *keeper) usable(ctx context.Context) (key string, state KeyState) {
	key, state = k.state()
	if state.State == "refused" {
		k.try(ctx)
		key, state = k.state()
	}
	return key, state
}

// refuse takes note that the API refuses a key.
func (k *keeper) refuse(key, why string) {
	k.lock.Lock()
	defer k.lock.Unlock()
	k.refuseLocked(key, why)
}

func (k *keeper) refuseLocked(key, why string) {
	if !k.refused {
		k.since = time.Now()
		k.log.Error("the model's API refuses the key", contract.LogFieldError, why)
	}
	k.refused, k.why, k.probed, k.last = true, why, key, time.Now()
	if !k.watched {
		k.watched = true
		go k.watch()
	}
}

// watch tries a refused key, or one in its place, until one is taken.
func (k *keeper) watch() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		select {
		case <-ticker.C:
		case <-k.closed:
			return
		}
		if k.try(ctx) {
			return
		}
	}
}

// try tries the key if it is another one than that which was refused, or after probeEvery; if somebody does already,
// it waits for that. It reports whether no key is refused now.
func (k *keeper) try(ctx context.Context) bool {
	key, _ := k.current()
	k.lock.Lock()
	if k.probing {
		over := k.changed
		k.lock.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
		}
		k.lock.Lock()
		defer k.lock.Unlock()
		return !k.refused
	}
	defer k.lock.Unlock()
	if !k.refused || key == "" || key == k.probed && time.Since(k.last) < probeEvery {
		return !k.refused
	}
	k.probing, k.probed, k.last = true, key, time.Now()
	k.lock.Unlock()
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTime)
	taken, sure, why := k.probe(limited, key)
	cancel()
	k.lock.Lock()
	close(k.changed)
	k.probing, k.changed = false, make(chan struct{})
	switch {
	case taken:
		k.refused, k.watched = false, false
		k.log.Info("the model's API takes the key")
	case sure:
		k.why = why
	}
	return !k.refused
}
