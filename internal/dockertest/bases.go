package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Bases makes the three images that the Dockerfile begins with, and calls them by the names that it has for them: Debian's from its
// packages, and on top of that this machine's Go, and its npm with the Node.js of package.json. The last two are only for building;
// they have this machine's certificate authorities and its settings for getting modules and packages, the first one has not; and what
// this machine has compiled already is not compiled again.
func (d *Daemon) Bases(ctx context.Context, root string) error {
	text, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		return err
	}
	names := map[string]string{}
	for _, found := range regexp.MustCompile(`(?m)^ARG (BASE|GO_BASE|NODE_BASE)=(\S+)`).FindAllStringSubmatch(string(text), -1) {
		names[found[1]] = found[2]
	}
	if len(names) != 3 {
		return fmt.Errorf("dockertest: the Dockerfile names %d bases, not 3: %v", len(names), names)
	}
	debian, err := debianBase(ctx, root, names["BASE"])
	if err != nil {
		return err
	}
	variables, err := settings(ctx)
	if err != nil {
		return err
	}
	golang, node, err := tools(ctx, root)
	if err != nil {
		return err
	}
	if d.memory, err = remember(ctx); err != nil {
		return err
	}
	program, err := d.gocache(ctx, root)
	if err != nil {
		return err
	}
	golang["/usr/local/bin/gocache"] = program
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return d.load(ctx, names["BASE"], debian, nil, nil) })
	work.Go(func() error {
		return d.load(ctx, names["GO_BASE"], debian, golang, d.withMemory(variables))
	})
	work.Go(func() error { return d.load(ctx, names["NODE_BASE"], debian, node, variables) })
	return work.Wait()
}

// debianBase makes an archive of Debian's smallest system, as the official slim image is: without manuals and translations. It is
// kept below .berth, since it takes half a minute.
func debianBase(ctx context.Context, root, name string) (string, error) {
	archive := filepath.Join(root, ".berth", "bases", strings.ReplaceAll(name, ":", "-")+".tar")
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	if err := os.MkdirAll(filepath.Dir(archive), 0o750); err != nil {
		return "", err
	}
	words := []string{"--variant=minbase", "--include=usr-is-merged", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"}
	for _, left := range []string{"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*"} {
		words = append(words, "--dpkgopt=path-exclude="+left)
	}
	words = append(words, "--dpkgopt=path-include=/usr/share/doc/*/copyright",
		`--customize-hook=echo 'APT::Keep-Downloaded-Packages "false"; DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };' >"$1/etc/apt/apt.conf.d/docker-clean"`,
		"--format=tar", "bookworm", archive+".part", "http://deb.debian.org/debian")
	output, err := exec.CommandContext(ctx, "mmdebstrap", words...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("dockertest: mmdebstrap: %w: %s (on Debian: apt-get install mmdebstrap)", err, output)
	}
	return archive, os.Rename(archive+".part", archive)
}

// authorities is where Debian keeps the certificates that it trusts.
const authorities = "/etc/ssl/certs/ca-certificates.crt"

// tools are the places of this machine that go into the two bases for building.
func tools(ctx context.Context, root string) (golang, node map[string]string, err error) {
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, nil, err
	}
	// Asked itself, npm would name the directory of whatever Node.js comes first on the PATH, which may be package.json's, without it.
	npm, err := exec.LookPath("npm")
	if err == nil {
		npm, err = filepath.EvalSymlinks(npm)
	}
	if err != nil {
		return nil, nil, err
	}
	golang = map[string]string{"/usr/local/go": strings.TrimSpace(string(goroot))}
	node = map[string]string{
		"/usr/local/bin/node":             filepath.Join(root, "node_modules", "node", "bin", "node"),
		"/usr/local/lib/node_modules/npm": filepath.Dir(filepath.Dir(npm)), // of its bin/npm-cli.js
	}
	for _, each := range []map[string]string{golang, node} {
		each[authorities] = authorities
		for name, path := range each {
			if each[name], err = filepath.EvalSymlinks(path); err != nil {
				return nil, nil, err
			}
		}
	}
	return golang, node, nil
}

// settings are the variables of the two bases for building.
func settings(ctx context.Context) ([]string, error) {
	list := []string{"PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOTOOLCHAIN=local", "NODE_EXTRA_CA_CERTS=" + authorities}
	for _, name := range []string{"GOPROXY", "GOSUMDB", "GONOSUMDB"} {
		value, err := exec.CommandContext(ctx, "go", "env", name).Output()
		if err != nil {
			return nil, err
		}
		if text := strings.TrimSpace(string(value)); text != "" {
			list = append(list, name+"="+text)
		}
	}
	value, err := exec.CommandContext(ctx, "npm", "config", "get", "registry").Output()
	if err != nil {
		return nil, err
	}
	return append(list, "npm_config_registry="+strings.TrimSpace(string(value))), nil
}

// load imports an archive of a system, with places of this machine added, as an image.
func (d *Daemon) load(ctx context.Context, name, archive string, places map[string]string, variables []string) error {
	words := []string{"import"}
	for _, each := range variables {
		name, value, _ := strings.Cut(each, "=")
		words = append(words, "--change", "ENV "+name+"="+strconv.Quote(value))
	}
	program := d.Command(ctx, append(words, "--change", `CMD ["bash"]`, "-", name)...)
	input, output := io.Pipe()
	program.Stdin = input
	go func() { _ = output.CloseWithError(compose(output, archive, places)) }()
	_, err := d.run(program)
	_ = input.CloseWithError(errors.New("docker import has ended"))
	return err
}

// compose writes an archive with more places in it.
func compose(to io.Writer, archive string, places map[string]string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // it was only read
	out := tar.NewWriter(to)
	for in := tar.NewReader(file); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(header.Name, "./dev/") {
			continue // Docker makes them
		}
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil { //nolint:gosec // an archive of our own
			return err
		}
	}
	for place, source := range places {
		if err := add(out, place, source); err != nil {
			return err
		}
	}
	if _, npm := places["/usr/local/bin/node"]; npm {
		link := &tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/local/bin/npm", Linkname: "../lib/node_modules/npm/bin/npm-cli.js", Mode: 0o777}
		if err := out.WriteHeader(link); err != nil {
			return err
		}
	}
	return out.Close()
}

func add(out *tar.Writer, place, source string) error {
	return filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if link, err = os.Readlink(path); err != nil {
				return err
			}
		}
		header, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		header.Name = strings.TrimPrefix(place+strings.TrimPrefix(path, source), "/")
		header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
		if info.IsDir() {
			header.Name += "/"
		}
		if err := out.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path) //nolint:gosec // nobody changes the directory meanwhile
		if err != nil {
			return err
		}
		_, err = io.Copy(out, bytes.NewReader(content))
		return err
	})
}
