package gateway

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path"
)

// probe asks the upstream whether it takes a key, with a request that costs nothing
// (https://docs.claude.com/en/api/models-list). An upstream that does not know the request, but not for the key, may
// take it: then sure is false.
func (g *Gateway) probe(ctx context.Context, key string) (taken, sure bool, why string) {
	address := *g.config.Upstream
	address.Path, address.RawPath, address.User = path.Join("/", g.config.Upstream.Path, "/v1/models"), "", nil
	address.RawQuery = "limit=1"
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return false, false, ""
	}
	r.Header.Set("X-Api-Key", key)
	r.Header.Set("Anthropic-Version", "2023-06-01")
	reply, err := g.transport.RoundTrip(r)
	if err != nil {
		return false, false, ""
	}
	defer reply.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(io.LimitReader(reply.Body, maxError))
	switch status := reply.StatusCode; {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return false, true, refusal(status, without(key, body))
	case status == http.StatusOK && err == nil:
		return true, true, ""
	case status >= 400 && !passing(status, http.Header{}):
		return true, false, ""
	default:
		return false, false, ""
	}
}

// refusal is what the API says about a key that it refuses.
func refusal(status int, body []byte) string {
	if said := message(body); said != "" {
		return "the model's API says: " + said
	}
	return "the model's API answers with status " + http.StatusText(status)
}

// refusesKey reports whether an outcome means that the API does not take the key, and why. A 403 may be about something
// else that the key must not do: then the key is good for other requests.
func (e *exchange) refusesKey(o *outcome, key string) (why string, refused bool) {
	if key == "" || o.err != nil {
		return "", false
	}
	switch o.status {
	case http.StatusUnauthorized:
		return refusal(o.status, o.body), true
	case http.StatusForbidden:
		var f failure
		if json.Unmarshal(o.body, &f) != nil || f.Error.Type != "permission_error" && f.Error.Type != "authentication_error" {
			return "", false
		}
		if !closedUntil(o.status, o.body).IsZero() {
			return "", false
		}
		ctx, cancel := context.WithTimeout(e.r.Context(), probeTime)
		defer cancel()
		taken, sure, _ := e.g.probe(ctx, key)
		return refusal(o.status, o.body), !taken || !sure
	default:
		return "", false
	}
}
