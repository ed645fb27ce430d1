// Package gateway stands between sessions and the model's API. A session gets an address on loopback and a
// token of its own; the real key is only here. The gateway hands streams on as they come, meters what they
// cost, refuses what would go over a limit, and waits out what the API cannot do just now, so that no session
// fails of it.
//
// What becomes of a request, in this order:
//
//	not from this machine, no token, another path     403, 401, 404
//	no key, or the key is refused                     403, which Claude Code does not repeat
//	a limit of session, day or month is reached       402, likewise, and Exceeded tells which
//	it might go over a limit, with others under way   waits until they have ended
//	429, 5xx, 529, no connection                      waits and tries again, up to Config.Patience
//	the API names a time beyond that                  Config.Park, and 429, not to be repeated
//	a reply                                           as it comes; Config.Report when it has ended
package gateway

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"berth/internal/api"
)

// Config says where requests go, and who is told what. All functions may be called by several goroutines at
// once, and none is called with a lock of this package held; those that are nil are not called.
type Config struct {
	Upstream *url.URL      // the Messages API; its path, if it has one, is put before that of requests
	Key      func() string // what the upstream takes as x-api-key, as it is now; "" if there is none
	NoKey    bool          // the upstream needs no key: a stand-in
	Ledger   *Ledger       // where spend is noted; one in memory, without limits, if nil
	Log      *slog.Logger  // none if nil

	// Patience is how long a request waits in all for an API that cannot answer it, or for other requests
	// under the same limit: PatienceTime if 0. Claude Code has to wait as long: Environment makes it.
	Patience time.Duration
	// Stall is how long a reply may be without a byte before it is cut: StallTime if 0.
	Stall time.Duration

	// Leave is asked before a request leaves whether it still may: a daemon that was stopped, and whose sessions were taken
	// over meanwhile, must not spend for them when it wakes. Its error is the session's answer.
	Leave func(session string) error
	// Report is told of each request for a message that went out, when it has ended. The ledger has it then.
	Report func(session string, r api.Request)
	// Notice is given what somebody who watches the session may want to know, such as "the model's API is
	// overloaded (529): waiting 12 s, try 4".
	Notice func(session, text string)
	// Park is told that the API names a time, later than Patience allows, at which it goes on. The request is
	// answered with an error that ends Claude Code's turn when Park returns: end the process before that, or
	// take its failure for what it is.
	Park func(session string, until time.Time, why string)
	// Refused is told that a request could not be made because the API refuses the key. The request is
	// answered, as with Park, when it returns.
	Refused func(session, why string)
}

// What Config has where nothing is said.
const (
	PatienceTime = 10 * time.Minute
	StallTime    = 90 * time.Second
)

// Environment is what Claude Code needs in its environment to wait as long as the gateway may take to answer, given
// Config.Patience. Without it Claude Code 2.1.330 gives a reply up that has not begun after six minutes, whatever
// API_TIMEOUT_MS says, or else after API_TIMEOUT_MS, which is ten; both count as failed tries. With it, it has been seen
// to wait for more than ten.
func Environment(patience time.Duration) []string {
	if patience == 0 {
		patience = PatienceTime
	}
	most := (patience + answerTime + time.Minute).Milliseconds()
	return []string{
		"API_FORCE_IDLE_TIMEOUT=0", // replies that stall are cut here
		fmt.Sprintf("API_TIMEOUT_MS=%d", most),
		fmt.Sprintf("CLAUDE_STREAM_FIRST_BYTE_TIMEOUT_MS=%d", most),
		fmt.Sprintf("CLAUDE_STREAM_IDLE_TIMEOUT_MS=%d", most),
	}
}

// Gateway hands requests of sessions on to the model's API. It is an http.Handler.
type Gateway struct {
	config    Config
	ledger    *Ledger
	transport http.RoundTripper
	key       keeper

	lock     sync.Mutex
	tokens   map[[sha256.Size]byte]*session // by the hash of the token
	sessions map[string]*session
}

// session is what was granted to a session, and how it is doing. Gateway.lock guards all but its first fields.
type session struct {
	id      string
	revoked context.Context // done when it is
	revoke  context.CancelCauseFunc

	budget   nano
	underWay int       // requests
	active   time.Time // when it last had one
	exceeded *Limit
	noticed  time.Time // when it was last given a notice
}

// Budget is what a session may spend.
type Budget struct {
	LimitUSD float64 // in all, since it was created; 0 is no limit
}

// Scope says what a limit is for.
type Scope string

// The scopes of limits.
const (
	ScopeSession Scope = "session"
	ScopeDay     Scope = "day"
	ScopeMonth   Scope = "month"
)

// Limit is a limit that is reached.
type Limit struct {
	Scope    Scope
	LimitUSD float64
	SpentUSD float64   // what was spent when a request was refused
	Resets   time.Time // when the next day or month begins (UTC); zero for a session's limit, which stays
}

// KeyState is what is known of the API key.
type KeyState struct {
	State string    // as api.Status.Key has it: "set", "missing", "refused" or "not needed"
	Why   string    // of refused: what the API says, or what is wrong with the key
	Since time.Time // of refused
}

// errRevoked ends what a session waits for.
var errRevoked = errors.New("the session has ended")

// New makes a gateway. It grants no session anything yet.
func New(config Config) *Gateway {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Patience == 0 {
		config.Patience = PatienceTime
	}
	if config.Stall == 0 {
		config.Stall = StallTime
	}
	g := &Gateway{
		config: config, ledger: config.Ledger, transport: newTransport(),
		tokens: map[[sha256.Size]byte]*session{}, sessions: map[string]*session{},
	}
	if g.ledger == nil {
		g.ledger = newLedger("", "", Limits{}, time.Now)
	}
	g.key = keeper{
		read: config.Key, notNeeded: config.NoKey, probe: g.probe, log: config.Log, closed: make(chan struct{}), changed: make(chan struct{}),
	}
	return g
}

// Close ends what the gateway does by itself. Requests under way go on.
func (g *Gateway) Close() { g.key.close() }

// Grant makes a token for a session, which has to send it as x-api-key or as a bearer token. A token that the
// session had before stays good until Revoke. The budget takes the place of an earlier one, and what Exceeded
// said of the session is forgotten.
func (g *Gateway) Grant(id string, budget Budget) (token string) {
	token = "berth-" + rand.Text()
	g.lock.Lock()
	defer g.lock.Unlock()
	s := g.sessions[id]
	if s == nil || s.revoked.Err() != nil {
		s = &session{id: id}
		s.revoked, s.revoke = context.WithCancelCause(context.Background())
		g.sessions[id] = s
	}
	s.budget, s.exceeded = fromUSD(budget.LimitUSD), nil
	g.tokens[sha256.Sum256([]byte(token))] = s
	return token
}

// Revoke ends what was granted to a session. Its requests that wait are ended; replies that come go on. What
// Exceeded and Active say of it stays.
func (g *Gateway) Revoke(id string) {
	g.lock.Lock()
	defer g.lock.Unlock()
	s := g.sessions[id]
	if s == nil {
		return
	}
	s.revoke(errRevoked)
	for token, its := range g.tokens {
		if its == s {
			delete(g.tokens, token)
		}
	}
	if s.exceeded == nil && s.underWay == 0 {
		delete(g.sessions, id)
	}
}

// Exceeded returns the limit that a request of the session was last refused for, until the next Grant; false
// if none was.
func (g *Gateway) Exceeded(id string) (Limit, bool) {
	g.lock.Lock()
	defer g.lock.Unlock()
	if s := g.sessions[id]; s != nil && s.exceeded != nil {
		return *s.exceeded, true
	}
	return Limit{}, false
}

// Key tells how it is with the API key. It asks Config.Key.
func (g *Gateway) Key() KeyState {
	_, state := g.key.state()
	return state
}

// Active returns when a request of the session last showed a sign of life: now, while one is under way, as the
// gateway itself ends requests that hang. Zero if there was none.
func (g *Gateway) Active(id string) time.Time {
	g.lock.Lock()
	defer g.lock.Unlock()
	s := g.sessions[id]
	switch {
	case s == nil:
		return time.Time{}
	case s.underWay > 0:
		return time.Now()
	default:
		return s.active
	}
}

// find returns the session that sends a request. Tokens are looked up by their hash, so that the time it takes
// tells nothing about them.
func (g *Gateway) find(r *http.Request) *session {
	token := r.Header.Get("X-Api-Key")
	if scheme, bearer, found := strings.Cut(r.Header.Get("Authorization"), " "); token == "" && found && strings.EqualFold(scheme, "Bearer") {
		token = bearer
	}
	g.lock.Lock()
	defer g.lock.Unlock()
	return g.tokens[sha256.Sum256([]byte(token))]
}

const (
	pathMessages = "/v1/messages"
	pathCount    = "/v1/messages/count_tokens"
)

// ServeHTTP answers a request of a session: by the upstream's reply, or by an error in its form. A reply that the
// upstream cuts is cut here too.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !api.LoopbackHost(r.Host) || r.Header.Get("Origin") != "" {
		refuse(w, http.StatusForbidden, "permission_error", "the gateway answers programs on this machine only")
		return
	}
	s := g.find(r)
	if s == nil {
		refuse(w, http.StatusUnauthorized, "authentication_error", "the gateway does not know this token, or the session that had it has ended")
		return
	}
	if r.Method == http.MethodHead && r.URL.Path == "/" {
		w.WriteHeader(http.StatusOK) // older versions of Claude Code ask whether somebody is there
		return
	}
	// An encoded path may be another one to the upstream than to us.
	if r.Method != http.MethodPost || r.URL.Path != pathMessages && r.URL.Path != pathCount || r.URL.RawPath != "" || r.URL.Host != "" {
		refuse(w, http.StatusNotFound, "not_found_error", fmt.Sprintf("the gateway does not pass on %.20s %.200q", r.Method, r.URL.Path))
		return
	}
	if g.serve(s, w, r) {
		panic(http.ErrAbortHandler) // half a reply must not look like a whole one
	}
}

// maxUnderWay is how many requests a session has at once: each is kept, body and all, until it is answered. Claude Code with
// many agents of its own has a dozen.
const maxUnderWay = 64

// serve keeps the session alive while a request is under way. cut says that the connection has to be.
func (g *Gateway) serve(s *session, w http.ResponseWriter, r *http.Request) (cut bool) {
	g.lock.Lock()
	if s.underWay >= maxUnderWay {
		g.lock.Unlock()
		refuse(w, http.StatusTooManyRequests, "rate_limit_error", fmt.Sprintf("the session has %d requests under way: no more go at once", maxUnderWay))
		return false
	}
	s.underWay++
	g.lock.Unlock()
	defer func() {
		g.lock.Lock()
		defer g.lock.Unlock()
		s.underWay--
		s.active = time.Now()
		if s.underWay == 0 && s.revoked.Err() != nil && s.exceeded == nil && g.sessions[s.id] == s {
			delete(g.sessions, s.id)
		}
	}()
	return (&exchange{g: g, s: s, w: w, r: r, began: time.Now()}).serve()
}

// notify gives a session a notice, but not many in a short time.
func (g *Gateway) notify(s *session, text string) {
	g.lock.Lock()
	now := time.Now()
	soon := now.Sub(s.noticed) < noticeEvery
	if !soon {
		s.noticed = now
	}
	g.lock.Unlock()
	if !soon && g.config.Notice != nil {
		g.config.Notice(s.id, text)
	}
}

// noticeEvery is how long after a notice a session gets no other one: several requests may wait for the same thing.
const noticeEvery = 5 * time.Second
