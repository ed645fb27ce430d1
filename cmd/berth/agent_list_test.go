package main

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// list answers with a page of sessions. Each was made a minute after the one before.
func (a *fakeAgent) list(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	a.listed = append(a.listed, query.Encode())
	sessions := slices.Clone(a.sessions)
	newest := query.Get("order") == "newest"
	if newest {
		slices.Reverse(sessions)
	}
	page, next := []any{}, ""
	limit, _ := strconv.Atoi(query.Get("limit"))
	for _, s := range sessions {
		id := s.fields["id"].(string)
		if after := query.Get("after"); after != "" && (!newest && id <= after || newest && id >= after) || !s.fits(query) {
			continue
		}
		if limit > 0 && len(page) == limit {
			next = page[limit-1].(map[string]any)["id"].(string)
			break
		}
		page = append(page, s.json())
	}
	answer(w, 200, map[string]any{"sessions": page, "next": next})
}

// fits reports whether a query asks for a session.
func (s *fakeSession) fits(query map[string][]string) bool {
	one := func(name string) string { return strings.Join(query[name], "") }
	field := func(name string) string { return s.fields[name].(string) }
	return (len(query["state"]) == 0 || slices.Contains(query["state"], field("state"))) &&
		(strings.HasPrefix(field("id"), one("id")) || strings.HasSuffix(field("id"), one("id"))) &&
		(one("repo") == "" || one("repo") == field("repo")) &&
		(one("created_after") == "" || field("created_at") > one("created_after")) &&
		(one("created_before") == "" || field("created_at") < one("created_before"))
}

func spend() map[string]any {
	return map[string]any{
		"day": "2026-11-23", "day_usd": 1.25, "day_limit_usd": 5, "month_usd": 20.5, "month_limit_usd": 0, "prices_dated": "2026-11-22",
	}
}

func (a *fakeAgent) spend(w http.ResponseWriter, _ *http.Request) {
	report := spend()
	report["days"] = map[string]float64{"2026-11-22": 19.25, "2026-11-23": 1.25, "2026-10-31": 0.005}
	report["models"] = map[string]float64{"claude-x": 0.5, "claude-y\x1b[2J": 20}
	answer(w, 200, report)
}

// bundle answers with a bundle that the script has made.
func (a *fakeAgent) bundle(w http.ResponseWriter, r *http.Request, s *fakeSession) {
	name := "thin.bundle"
	if r.URL.Query().Get("full") == "true" {
		name = "full.bundle"
	}
	a.listed = append(a.listed, name)
	bundle, err := os.ReadFile(filepath.Join(a.dir, name))
	if err != nil {
		refuse(w, 409, "conflict", "session "+s.fields["id"].(string)+" is running, and nothing of its work is on the volume yet")
		return
	}
	w.Header().Set("Content-Type", "application/x-git-bundle")
	_, _ = w.Write(bundle) // a client that is gone misses nothing
}

// dequeue lets the sessions of the queue succeed.
func (a *fakeAgent) dequeue() {
	for _, s := range a.sessions {
		if s.fields["state"] == "queued" {
			s.work()
			s.end(endings["succeed"])
		}
	}
}

func (a *fakeAgent) tellStatus(w http.ResponseWriter, _ *http.Request) {
	status := map[string]any{
		"version": "v1.2.3", "claude_version": "2.1.330 (Claude Code)", "pid": a.pid, "started_at": "2026-11-23T01:00:00Z",
		"data": "/volume", "work": "/volume/work", "model": "scripted", "key": "not needed", "isolation": "none", "places": 4,
		"sessions": map[string]int{"running": 1, "succeeded": 2}, "problems": []string{}, "spend": spend(),
		"volume": map[string]int{"total": 400e9, "free": 300e9},
	}
	for name, value := range a.status {
		status[name] = value
	}
	answer(w, 200, status)
}
