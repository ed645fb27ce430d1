package dockertest

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/cache"
)

// remember starts what hands this machine's Go modules and compiled packages to builds in containers, on loopback. The build of the image
// has the Go toolchain of this machine: what it would compile or get again is the same.
func remember(ctx context.Context) (*httptest.Server, error) {
	places := map[string]string{}
	for _, name := range []string{"GOCACHE", "GOMODCACHE"} {
		value, err := exec.CommandContext(ctx, "go", "env", name).Output()
		if err != nil {
			return nil, err
		}
		places[name] = strings.TrimSpace(string(value))
	}
	compiled, err := cache.Open(places["GOCACHE"])
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /cache/{action}", func(w http.ResponseWriter, r *http.Request) { lookUp(compiled, w, r) })
	mux.HandleFunc("POST /cache/{action}", func(w http.ResponseWriter, r *http.Request) { keep(compiled, w, r) })
	// What `go mod download` leaves is laid out as a proxy's answers.
	mux.Handle("/mod/", http.StripPrefix("/mod/", http.FileServer(http.Dir(filepath.Join(places["GOMODCACHE"], "cache", "download")))))
	return httptest.NewServer(mux), nil
}

// gocache builds the program that asks it in a container.
func (d *Daemon) gocache(ctx context.Context, root string) (string, error) {
	file := filepath.Join(filepath.Dir(d.log), "gocache")
	build := exec.CommandContext(ctx, "go", "build", "-o", file, "./internal/dockertest/gocache")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("dockertest: gocache: %w: %s", err, output)
	}
	return file, nil
}

// withMemory are variables with which a build in a container asks it first.
func (d *Daemon) withMemory(variables []string) (list []string) {
	for _, each := range variables {
		if value, found := strings.CutPrefix(each, "GOPROXY="); found {
			each = "GOPROXY=" + d.memory.URL + "/mod," + value
		}
		list = append(list, each)
	}
	return append(list, "GOCACHEPROG=/usr/local/bin/gocache "+d.memory.URL+"/cache/")
}

func action(r *http.Request) (id cache.ActionID, err error) {
	text, err := hex.DecodeString(r.PathValue("action"))
	if err != nil || len(text) != len(id) {
		return id, fmt.Errorf("%q is no action's id", r.PathValue("action"))
	}
	return cache.ActionID(text), nil
}

// lookUp answers with a compiled package, if there is one.
func lookUp(compiled *cache.Cache, w http.ResponseWriter, r *http.Request) {
	id, err := action(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	path, entry, err := compiled.GetFile(id)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	content, err := os.ReadFile(path)
	if err != nil || int64(len(content)) != entry.Size {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Output", hex.EncodeToString(entry.OutputID[:]))
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	_, _ = w.Write(content) // who asked notices what is missing
}

// keep takes a compiled package.
func keep(compiled *cache.Cache, w http.ResponseWriter, r *http.Request) {
	id, err := action(r)
	if err == nil {
		var content []byte
		if content, err = io.ReadAll(r.Body); err == nil {
			_, _, err = compiled.Put(id, bytes.NewReader(content))
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
