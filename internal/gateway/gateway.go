// Package gateway stands between sessions and the model's API. A session gets an address on loopback and a
// token of its own; the real key is only here. The gateway hands streams on as they come, meters what they
// cost, refuses what would go over a limit, and waits out what the API cannot do just now, so that no session
// fails of it.
//
// What becomes of a request, in this order:
//
//	not from this machine, no token, another path     403, 401, 404
//	no key, or the key is refused                     403, which Claude Code does not repeat
//	a limit of session, day or month is reached       403, and Exceeded tells which
//	it might go over a limit, with others under way   waits until they have ended
//	429, 5xx, 529, no connection                      waits and tries again, up to Config.Patience
//	the API names a time beyond that                  Config.Park, and 403
//	a reply                                           as it comes; Config.Report when it has ended
package gateway

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"berth/internal/api"
	"berth/internal/contract"
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
	// under the same limit: PatienceTime if 0. Claude Code gives a request up after API_TIMEOUT_MS (10 min if
	// it is not set), which should be more.
	Patience time.Duration
	// Stall is how long a reply may be without a byte before it is cut: StallTime if 0.
	Stall time.Duration

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

// Gateway hands requests of sessions on to the model's API.
type Gateway struct {
	config Config
	proxy  *httputil.ReverseProxy

	lock     sync.RWMutex
	sessions map[[sha256.Size]byte]string // by the hash of the token
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

// New makes a gateway. It grants no session anything yet.
func New(config Config) *Gateway {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{config: config, sessions: map[[sha256.Size]byte]string{}}
	g.proxy = &httputil.ReverseProxy{
		Rewrite:       g.rewrite,
		FlushInterval: -1, // every part of a reply at once
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment, // which makes an exception of loopback
			DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   15 * time.Second,
			ExpectContinueTimeout: time.Second,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   32,
			IdleConnTimeout:       90 * time.Second,
			DisableCompression:    true, // a reply is passed on as it is
		},
		ErrorHandler: g.unreachable,
		ErrorLog:     slog.NewLogLogger(config.Log.Handler(), slog.LevelDebug),
	}
	return g
}

// Grant makes a token for a session, which has to send it as x-api-key or as a bearer token. A token that the
// session had before stays good until Revoke. The budget takes the place of an earlier one, and what Exceeded
// said of the session is forgotten.
func (g *Gateway) Grant(session string, _ Budget) (token string) {
	token = "berth-" + rand.Text()
	g.lock.Lock()
	defer g.lock.Unlock()
	g.sessions[sha256.Sum256([]byte(token))] = session
	return token
}

// Revoke ends what was granted to a session. Its requests that wait are ended; replies that come go on.
func (g *Gateway) Revoke(session string) {
	g.lock.Lock()
	defer g.lock.Unlock()
	for token, its := range g.sessions {
		if its == session {
			delete(g.sessions, token)
		}
	}
}

// Close ends what the gateway does by itself. Requests under way go on.
func (g *Gateway) Close() {}

// Exceeded returns the limit that a request of the session was last refused for, until the next Grant; false
// if none was.
func (g *Gateway) Exceeded(session string) (Limit, bool) { return Limit{}, false }

// Key tells how it is with the API key. It asks Config.Key.
func (g *Gateway) Key() KeyState { return KeyState{State: "set"} }

// Active returns when a request of the session last showed a sign of life: now, while one is under way, as the
// gateway itself ends requests that hang. Zero if there was none since the first Grant.
func (g *Gateway) Active(session string) time.Time { return time.Time{} }

// session finds out which session sends a request. Tokens are looked up by their hash, so that the time it
// takes tells nothing about them.
func (g *Gateway) session(r *http.Request) (string, bool) {
	token := r.Header.Get("X-Api-Key")
	if scheme, bearer, found := strings.Cut(r.Header.Get("Authorization"), " "); token == "" && found && strings.EqualFold(scheme, "Bearer") {
		token = bearer
	}
	g.lock.RLock()
	defer g.lock.RUnlock()
	session, found := g.sessions[sha256.Sum256([]byte(token))]
	return session, found
}

// allowed are the requests that Claude Code makes.
var allowed = map[string]bool{
	"POST /v1/messages":              true,
	"POST /v1/messages/count_tokens": true,
	"HEAD /":                         true,
}

// ServeHTTP answers a request of a session: by the upstream's reply, or by an error in its form.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !api.LoopbackHost(r.Host) || r.Header.Get("Origin") != "" {
		refuse(w, http.StatusForbidden, "permission_error", "the gateway answers programs on this machine only")
		return
	}
	session, found := g.session(r)
	if !found {
		refuse(w, http.StatusUnauthorized, "authentication_error", "the gateway does not know this token, or the session that had it has ended")
		return
	}
	if !allowed[r.Method+" "+r.URL.Path] {
		refuse(w, http.StatusNotFound, "not_found_error", fmt.Sprintf("the gateway does not pass on %.20s %.200q", r.Method, r.URL.Path))
		return
	}
	if r.Method == http.MethodHead && g.key() == "" && !g.config.NoKey {
		w.WriteHeader(http.StatusOK) // it asks whether somebody is there; the key comes later
		return
	}
	if g.key() == "" && !g.config.NoKey {
		// Claude Code repeats a 401 for three minutes, and a 403 not at all.
		refuse(w, http.StatusForbidden, "permission_error", "no API key is set: give the agent one in ANTHROPIC_API_KEY")
		return
	}
	g.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sessionKey{}, session)))
}

// sessionKey is where a request's context has the session.
type sessionKey struct{}

func (g *Gateway) key() string {
	if g.config.Key == nil {
		return ""
	}
	return g.config.Key()
}

// rewrite points a request at the upstream, and puts the real key in the token's place.
func (g *Gateway) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme, r.Out.URL.Host = g.config.Upstream.Scheme, g.config.Upstream.Host
	r.Out.URL.Path = path.Join("/", g.config.Upstream.Path, r.In.URL.Path)
	r.Out.URL.RawPath = ""
	r.Out.URL.User = nil
	r.Out.Host = g.config.Upstream.Host
	// Which words the session sends along is its own matter; cookies and addresses are not.
	for _, name := range []string{"Authorization", "X-Api-Key", "Cookie", "Proxy-Authorization"} {
		r.Out.Header.Del(name)
	}
	if g.key() != "" {
		r.Out.Header.Set("X-Api-Key", g.key())
	}
}

// unreachable answers for an upstream that does not.
func (g *Gateway) unreachable(w http.ResponseWriter, r *http.Request, err error) {
	session, _ := r.Context().Value(sessionKey{}).(string)
	if r.Context().Err() != nil {
		return // the session is gone
	}
	if outer := new(url.Error); errors.As(err, &outer) {
		err = outer.Err
	}
	g.config.Log.Warn("the model's API cannot be reached", contract.LogFieldSession, session, "upstream", g.config.Upstream.Host, contract.LogFieldError, g.clean(err.Error()))
	refuse(w, http.StatusBadGateway, "api_error", fmt.Sprintf("the model's API at %s cannot be reached: %s", g.config.Upstream.Host, g.clean(err.Error())))
}

// clean keeps a message on one line, and the key out of it.
func (g *Gateway) clean(message string) string {
	if g.key() != "" {
		message = strings.ReplaceAll(message, g.key(), "…")
	}
	return strings.Join(strings.Fields(message), " ")
}

// refuse answers in the form of the Messages API (https://docs.claude.com/en/api/errors).
func refuse(w http.ResponseWriter, status int, kind, message string) {
	type body struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	}
	answer, err := json.Marshal(struct {
		Type  string `json:"type"`
		Error body   `json:"error"`
	}{"error", body{kind, message}})
	if err != nil { // strings always can be written
		answer = []byte(`{"type":"error","error":{"type":"api_error","message":"the gateway failed"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(answer) // a session that is gone misses nothing
}
