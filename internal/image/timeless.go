package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// epoch is when everything in an image that berth has built was made, as far as the image says: with the real times, two builds of the
// same files would be two images.
var epoch = time.Unix(0, 0).UTC()

// timeless copies a layer without the times and the owners' names in it. What counts is kept as it is: names, kinds, contents, modes,
// owners' numbers, links, extended attributes, and the order.
func timeless(to io.Writer, from io.Reader) error {
	files, copied := tar.NewReader(from), tar.NewWriter(to)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return copied.Close()
		}
		if err != nil {
			return fmt.Errorf("read a layer: %w", err)
		}
		clean := &tar.Header{
			Typeflag: header.Typeflag, Name: header.Name, Linkname: header.Linkname, Size: header.Size, Mode: header.Mode,
			Uid: header.Uid, Gid: header.Gid, Devmajor: header.Devmajor, Devminor: header.Devminor, ModTime: epoch,
		}
		if clean.Typeflag == tar.TypeGNUSparse { // its holes are read as zeros
			clean.Typeflag = tar.TypeReg
		}
		for name, value := range header.PAXRecords {
			if strings.HasPrefix(name, "SCHILY.xattr.") {
				if clean.PAXRecords == nil {
					clean.PAXRecords = map[string]string{}
				}
				clean.PAXRecords[name] = value
			}
		}
		if err := copied.WriteHeader(clean); err != nil {
			return fmt.Errorf("copy %s of a layer: %w", header.Name, err)
		}
		if _, err := io.Copy(copied, files); err != nil { //nolint:gosec // it is as large as the builder has made it
			return fmt.Errorf("copy %s of a layer: %w", header.Name, err)
		}
	}
}

// timelessConfig is an image's configuration without the times in it, and without what some builders note of their own container.
func timelessConfig(config *v1.ConfigFile) *v1.ConfigFile {
	config = config.DeepCopy()
	config.Created = v1.Time{Time: epoch}
	config.Container = ""
	config.DockerVersion = "" //nolint:staticcheck // some builders still write it
	config.Config.Hostname, config.Config.Image = "", ""
	for i := range config.History {
		config.History[i].Created = v1.Time{Time: epoch}
	}
	return config
}
