// Command bill writes the bill of materials of the agent's image to standard output, as CycloneDX 1.6 in JSON: the Debian
// packages, the Go modules in berthd, and Claude Code. It is the same each time for the same image.
//
//	bill -dpkg STATUS -release OS-RELEASE -go BERTHD -npm PACKAGE-LOCK -cpu amd64|arm64
package main

import (
	"bufio"
	"cmp"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
)

func main() {
	dpkg := flag.String("dpkg", "/var/lib/dpkg/status", "the package manager's `file` of what is installed")
	release := flag.String("release", "/etc/os-release", "the `file` that names the distribution")
	program := flag.String("go", "", "a `file` built by Go")
	npm := flag.String("npm", "package-lock.json", "npm's lock `file`")
	cpu := flag.String("cpu", "amd64", "the `architecture` of the image: amd64 or arm64")
	flag.Parse()
	if err := write(os.Stdout, *dpkg, *release, *program, *npm, *cpu); err != nil {
		fmt.Fprintln(os.Stderr, "bill:", err)
		os.Exit(1)
	}
}

func write(out io.Writer, dpkg, release, program, npm, cpu string) error {
	system, err := readFields(release, "=")
	if err != nil {
		return err
	}
	if len(system) == 0 {
		return fmt.Errorf("%s names no distribution", release)
	}
	packages, err := readFields(dpkg, ": ")
	if err != nil {
		return err
	}
	components := debian(packages, system[0])
	modules, err := goModules(program)
	if err != nil {
		return err
	}
	claude, err := claudeCode(npm, cpu)
	if err != nil {
		return err
	}
	components = slices.Concat(components, modules, claude)
	slices.SortFunc(components, func(a, b cyclonedx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })

	bill := cyclonedx.NewBOM()
	bill.Metadata = &cyclonedx.Metadata{Component: &cyclonedx.Component{Type: cyclonedx.ComponentTypeContainer, Name: "claude-code-agent"}}
	bill.Components = &components
	return cyclonedx.NewBOMEncoder(out, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bill, cyclonedx.SpecVersion1_6)
}

// readFields reads paragraphs of "name<separator>value" lines. Lines that go on with a blank are left out.
func readFields(path, separator string) (paragraphs []map[string]string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	fields := map[string]string{}
	flush := func() {
		if len(fields) > 0 {
			paragraphs, fields = append(paragraphs, fields), map[string]string{}
		}
	}
	for lines.Scan() {
		switch name, value, found := strings.Cut(lines.Text(), separator); {
		case lines.Text() == "":
			flush()
		case found && !strings.HasPrefix(name, " "):
			fields[name] = strings.Trim(value, `"`)
		}
	}
	flush()
	return paragraphs, lines.Err()
}

// debian lists the packages that are installed.
func debian(packages []map[string]string, system map[string]string) (list []cyclonedx.Component) {
	for _, each := range packages {
		if !strings.HasSuffix(each["Status"], " installed") {
			continue
		}
		reference := fmt.Sprintf("pkg:deb/%s/%s@%s?arch=%s&distro=%s-%s", system["ID"], url.PathEscape(each["Package"]),
			url.PathEscape(each["Version"]), each["Architecture"], system["ID"], system["VERSION_ID"])
		list = append(list, component(each["Package"], each["Version"], reference))
	}
	return list
}

// goModules lists what a program was built from.
func goModules(program string) (list []cyclonedx.Component, err error) {
	built, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	standard := strings.TrimPrefix(built.GoVersion, "go")
	list = append(list, component("std", standard, "pkg:golang/std@"+standard))
	for _, module := range built.Deps {
		if module.Replace != nil {
			module = module.Replace
		}
		list = append(list, component(module.Path, module.Version, "pkg:golang/"+module.Path+"@"+url.PathEscape(module.Version)))
	}
	return list, nil
}

// claudeCode is the program that sessions run, with the digest of the archive that it came in.
func claudeCode(lock, cpu string) ([]cyclonedx.Component, error) {
	name := "@anthropic-ai/claude-code-linux-" + strings.Replace(cpu, "amd64", "x64", 1)
	text, err := os.ReadFile(lock)
	if err != nil {
		return nil, err
	}
	var read struct {
		Packages map[string]struct{ Version, Integrity string }
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return nil, fmt.Errorf("reading %s: %w", lock, err)
	}
	pinned := read.Packages["node_modules/"+name]
	digest, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(pinned.Integrity, "sha512-"))
	if err != nil || pinned.Version == "" {
		return nil, fmt.Errorf("%s does not pin %s by its SHA-512", lock, name)
	}
	claude := component(name, pinned.Version, "pkg:npm/"+strings.Replace(name, "@", "%40", 1)+"@"+pinned.Version)
	claude.Type = cyclonedx.ComponentTypeApplication
	claude.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA512, Value: hex.EncodeToString(digest)}}
	return []cyclonedx.Component{claude}, nil
}

// component has its package URL (https://github.com/package-url/purl-spec) for a reference.
func component(name, version, reference string) cyclonedx.Component {
	return cyclonedx.Component{
		Type: cyclonedx.ComponentTypeLibrary, BOMRef: reference, Name: name, Version: version, PackageURL: reference,
	}
}
