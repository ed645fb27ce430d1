package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
)

func TestHoldsByID(t *testing.T) {
	session := &Session{ID: "01a20627-df5e-7b97-99ab-b87a348bed5b"}
	for part, want := range map[string]bool{"": true, "01a2": true, "ed5b": true, session.ID: true, "df5e": false, "01a21": false} {
		if got := (&ListQuery{IDPart: part}).Holds(session); got != want {
			t.Errorf("%q: %v", part, got)
		}
	}
}

// Pages are put together, and no more is asked for than is wanted.
func TestCollect(t *testing.T) {
	const there = 1203
	for most, want := range map[int][]int{0: {500, 500, 500}, 1: {1}, 500: {500}, 501: {500, 1}, 1203: {500, 500, 203}, 5000: {500, 500, 500}} {
		var asked []int
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
			asked = append(asked, limit)
			from, _ := strconv.Atoi(r.URL.Query().Get("after"))
			page := SessionList{Sessions: []Session{}}
			for i := from + 1; i <= there && len(page.Sessions) < limit; i++ {
				page.Sessions = append(page.Sessions, Session{ID: fmt.Sprint(i)})
			}
			if last := from + limit; last < there {
				page.Next = fmt.Sprint(last)
			}
			_ = json.NewEncoder(w).Encode(page)
		}))
		all, err := NewClient(Endpoint{URL: server.URL}).Collect(t.Context(), ListQuery{Limit: most})
		server.Close()
		wanted := there
		if most > 0 {
			wanted = min(most, there)
		}
		if err != nil || len(all) != wanted || all[wanted-1].ID != fmt.Sprint(wanted) || !slices.Equal(asked, want) {
			t.Errorf("limit %d: %d sessions by asking for %v, %v", most, len(all), asked, err)
		}
	}
}
