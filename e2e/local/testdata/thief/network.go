package main

import (
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// network asks every server that it was told of, and its own gateway, in all ways but the right one.
func (t *thief) network() {
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	own := os.Getenv("ANTHROPIC_API_KEY")
	for _, url := range append(t.task.URLs, os.Getenv("ANTHROPIC_BASE_URL")) {
		for _, path := range []string{
			"", "/", "/v1/sessions", "/v1/status", "/v1/models", "/v1/files", "/v1/organizations/api_keys", "/../token", "/metrics",
			"/debug/pprof/", "/debug/vars", "/openapi.json", "/v1/messages/batches",
		} {
			for _, header := range []map[string]string{
				{}, {"Authorization": "Bearer x"}, {"Authorization": "Bearer " + own}, {"X-Api-Key": own}, {"Authorization": "x"},
				{"Host": "evil.example"}, {"Host": "evil.example", "X-Api-Key": own}, {"Origin": "http://evil.example", "X-Api-Key": own},
				{"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost", "Authorization": "Bearer "},
			} {
				t.request(client, url+path, header)
			}
		}
	}
}

func (t *thief) request(client *http.Client, url string, header map[string]string) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	request.Host = header["Host"]
	response, err := client.Do(request)
	t.report.Tried["network"]++
	if err != nil {
		return
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	t.look("network", url, text)
	if header["Host"] != "" && response.StatusCode < 400 {
		t.found("rebinding", url, response.Status)
	}
	if response.StatusCode < 300 && strings.Contains(url, "/v1/") {
		t.found("answered", url, response.Status)
	}
}
