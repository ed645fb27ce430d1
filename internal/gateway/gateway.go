// Package gateway stands between sessions and the model's API. A session gets an address on loopback and a
// token of its own; the real key is only here.
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

// Config says where requests go.
type Config struct {
	Upstream *url.URL     // the Messages API; its path, if it has one, is put before that of requests
	Key      string       // what the upstream takes as x-api-key; empty if there is none
	NoKey    bool         // the upstream needs no key: a stand-in
	Log      *slog.Logger // none if nil
}

// Gateway hands requests of sessions on to the model's API.
type Gateway struct {
	config Config
	proxy  *httputil.ReverseProxy

	lock     sync.RWMutex
	sessions map[[sha256.Size]byte]string // by the hash of the token
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

// Grant makes a token for a session, which has to send it as x-api-key or as a bearer token. A token that
// the session had before stays good until Revoke.
func (g *Gateway) Grant(session string) (token string) {
	token = "berth-" + rand.Text()
	g.lock.Lock()
	defer g.lock.Unlock()
	g.sessions[sha256.Sum256([]byte(token))] = session
	return token
}

// Revoke ends what was granted to a session. Requests that are under way go on.
func (g *Gateway) Revoke(session string) {
	g.lock.Lock()
	defer g.lock.Unlock()
	for token, its := range g.sessions {
		if its == session {
			delete(g.sessions, token)
		}
	}
}

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
	if r.Method == http.MethodHead && g.config.Key == "" && !g.config.NoKey {
		w.WriteHeader(http.StatusOK) // it asks whether somebody is there; the key comes later
		return
	}
	if g.config.Key == "" && !g.config.NoKey {
		// Claude Code repeats a 401 for three minutes, and a 403 not at all.
		refuse(w, http.StatusForbidden, "permission_error", "no API key is set: give the agent one in ANTHROPIC_API_KEY")
		return
	}
	g.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sessionKey{}, session)))
}

// sessionKey is where a request's context has the session.
type sessionKey struct{}

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
	if g.config.Key != "" {
		r.Out.Header.Set("X-Api-Key", g.config.Key)
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
	if g.config.Key != "" {
		message = strings.ReplaceAll(message, g.config.Key, "…")
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
