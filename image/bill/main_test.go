package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
)

// file makes a file of a test.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	status = "Package: git\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.39.5-0+deb12u3\nDescription: fast\n more: of it\n\n" +
		"Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n"
	release = "ID=debian\nVERSION_ID=\"12\"\n"
	lock    = `{"packages":{"node_modules/@anthropic-ai/claude-code-linux-x64":{"version":"2.1.330","integrity":"sha512-AAEC"}}}`
)

func TestTheBillNamesWhatIsInTheImage(t *testing.T) {
	program, err := os.Executable() // built by Go, with the modules of this test
	if err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	for _, out := range []*bytes.Buffer{&first, &second} {
		if err := write(out, file(t, status), file(t, release), program, file(t, lock), "amd64"); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two bills of one image differ")
	}
	var bill cyclonedx.BOM
	if err := json.Unmarshal(first.Bytes(), &bill); err != nil {
		t.Fatal(err)
	}
	var references []string
	for _, each := range *bill.Components {
		references = append(references, each.PackageURL)
	}
	for _, wanted := range []string{
		"pkg:deb/debian/git@1:2.39.5-0+deb12u3?arch=amd64&distro=debian-12",
		"pkg:npm/%40anthropic-ai/claude-code-linux-x64@2.1.330",
	} {
		if !slices.Contains(references, wanted) {
			t.Errorf("%s is missing in\n%s", wanted, strings.Join(references, "\n"))
		}
	}
	if slices.ContainsFunc(references, func(each string) bool { return strings.Contains(each, "/gone@") }) {
		t.Error("it has a package that is not installed")
	}
	if !slices.ContainsFunc(references, func(each string) bool {
		return strings.HasPrefix(each, "pkg:golang/github.com/!cyclone!d!x/cyclonedx-go@") || strings.HasPrefix(each, "pkg:golang/github.com/CycloneDX/cyclonedx-go@")
	}) {
		t.Errorf("no Go module in\n%s", strings.Join(references, "\n"))
	}
}

func TestAnUnpinnedProgramIsRefused(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	err = write(&bytes.Buffer{}, file(t, status), file(t, release), program, file(t, lock), "arm64")
	if err == nil || !strings.Contains(err.Error(), "does not pin @anthropic-ai/claude-code-linux-arm64") {
		t.Errorf("the error is %v", err)
	}
}
