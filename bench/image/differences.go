package main

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// entry is what an archive has of a file: everything but its time, and its time.
type entry struct {
	what string
	time int64
}

// differences prints how many entries of two layers differ, and the first few of them.
func differences(one, two v1.Layer) error {
	a, err := entries(one)
	if err != nil {
		return err
	}
	b, err := entries(two)
	if err != nil {
		return err
	}
	var content, times []string
	for name, first := range a {
		switch second, there := b[name]; {
		case !there || first.what != second.what:
			content = append(content, name)
		case first.time != second.time:
			times = append(times, name)
		}
	}
	for name := range b {
		if _, there := a[name]; !there {
			content = append(content, name)
		}
	}
	slices.Sort(content)
	slices.Sort(times)
	fmt.Printf("  of %d entries %d differ in their content, and %d in their time alone\n  content: %q\n  times: %q\n",
		len(a), len(content), len(times), content[:min(len(content), 20)], times[:min(len(times), 10)])
	return nil
}

func entries(layer v1.Layer) (list map[string]entry, err error) {
	content, err := layer.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	list = map[string]entry{}
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, archive); err != nil { //nolint:gosec // an image that was just built here
			return nil, err
		}
		list[header.Name] = entry{fmt.Sprintf("%c %o %d %d %s %x", header.Typeflag, header.Mode, header.Uid, header.Gid, header.Linkname, sum.Sum(nil)), header.ModTime.UnixNano()}
	}
}
