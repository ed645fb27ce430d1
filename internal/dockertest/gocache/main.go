// Command gocache is the memory of a `go build` in a container, which has none of its own (GOCACHEPROG; see `go doc cmd/go/internal/cacheprog`):
// it asks the test that builds the image for compiled packages, and gives it new ones.
//
//	gocache http://127.0.0.1:1234/cache/
//
// What goes wrong with it is as if nothing were known: the package is compiled.
package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
)

// request and response are what the protocol has, but for what is not used here.
type request struct {
	ID       int64
	Command  string
	ActionID []byte
	OutputID []byte
	BodySize int64
}

type response struct {
	ID            int64
	Err           string   `json:",omitempty"`
	KnownCommands []string `json:",omitempty"`
	Miss          bool     `json:",omitempty"`
	OutputID      []byte   `json:",omitempty"`
	Size          int64    `json:",omitempty"`
	DiskPath      string   `json:",omitempty"`
}

func main() {
	if err := run(os.Args[1], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "gocache:", err)
		os.Exit(1)
	}
}

// run answers requests until there are no more.
func run(from string, in io.Reader, out io.Writer) error {
	directory, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	m := memory{from, filepath.Join(directory, "go-build", "gocache")} // below what the Dockerfile has mounted for that
	if err := os.MkdirAll(m.directory, 0o750); err != nil {
		return err
	}
	var mu sync.Mutex
	encoder := json.NewEncoder(out)
	answer := func(r response) error {
		mu.Lock()
		defer mu.Unlock()
		return encoder.Encode(r)
	}
	if err := answer(response{KnownCommands: []string{"get", "put", "close"}}); err != nil {
		return err
	}
	var work sync.WaitGroup
	defer work.Wait()
	for decoder := json.NewDecoder(in); ; {
		var asked request
		if err := decoder.Decode(&asked); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var body []byte
		if asked.Command == "put" && asked.BodySize > 0 {
			if err := decoder.Decode(&body); err != nil {
				return err
			}
		}
		if asked.Command == "close" {
			work.Wait()
			return answer(response{ID: asked.ID})
		}
		work.Go(func() {
			var r response
			if asked.Command == "put" {
				r = m.put(asked, body)
			} else {
				r = m.get(asked)
			}
			_ = answer(r) // who does not listen any more has ended
		})
	}
}

// memory is what is known elsewhere, with copies of it in files here.
type memory struct{ from, directory string }

func (m memory) get(asked request) response {
	missed := response{ID: asked.ID, Miss: true}
	found, err := http.Get(m.from + hex.EncodeToString(asked.ActionID))
	if err != nil {
		return missed
	}
	defer found.Body.Close() //nolint:errcheck // it was only read
	output, err := hex.DecodeString(found.Header.Get("Output"))
	if err != nil || len(output) == 0 || found.StatusCode != http.StatusOK {
		return missed
	}
	path, size, err := m.keep(output, found.Body)
	if err != nil || size != found.ContentLength {
		return missed
	}
	return response{ID: asked.ID, OutputID: output, Size: size, DiskPath: path}
}

func (m memory) put(asked request, body []byte) response {
	path, size, err := m.keep(asked.OutputID, bytes.NewReader(body))
	if err != nil {
		return response{ID: asked.ID, Err: err.Error()}
	}
	if given, err := http.Post(m.from+hex.EncodeToString(asked.ActionID), "application/octet-stream", bytes.NewReader(body)); err == nil {
		_ = given.Body.Close() // kept there or not, it is here
	}
	return response{ID: asked.ID, OutputID: asked.OutputID, Size: size, DiskPath: path}
}

// keep writes an output to a file, whole or not at all.
func (m memory) keep(output []byte, content io.Reader) (path string, size int64, err error) {
	path = filepath.Join(m.directory, hex.EncodeToString(output))
	file, err := os.CreateTemp(m.directory, "part")
	if err != nil {
		return "", 0, err
	}
	size, err = io.Copy(file, content)
	if err := errors.Join(err, file.Close()); err != nil {
		return "", 0, errors.Join(err, os.Remove(file.Name()))
	}
	return path, size, os.Rename(file.Name(), path)
}
