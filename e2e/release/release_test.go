//go:build release

package release

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"debug/macho"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/internal/cloud/awstest"
)

const dist = "../../dist"

var programs = []string{"bin/berth", "bin/berthd", "bin/infra"}

// machines are whom an archive is for, and what its programs say of that.
var machines = map[string]struct {
	elf   elf.Machine
	macho macho.Cpu
}{
	"linux_amd64":  {elf: elf.EM_X86_64},
	"linux_arm64":  {elf: elf.EM_AARCH64},
	"darwin_amd64": {macho: macho.CpuAmd64},
	"darwin_arm64": {macho: macho.CpuArm64},
}

func TestArchives(t *testing.T) {
	for machine, want := range machines {
		t.Run(machine, func(t *testing.T) {
			dir := unpack(t, machine)
			for _, program := range programs {
				info, err := os.Stat(filepath.Join(dir, program))
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode().Perm() != 0o755 {
					t.Errorf("%s has mode %v", program, info.Mode())
				}
				if want.macho != 0 {
					file, err := macho.Open(filepath.Join(dir, program))
					if err != nil {
						t.Fatal(err)
					}
					if file.Cpu != want.macho {
						t.Errorf("%s is for %v, not %v", program, file.Cpu, want.macho)
					}
					continue
				}
				file, err := elf.Open(filepath.Join(dir, program))
				if err != nil {
					t.Fatal(err)
				}
				if file.Machine != want.elf {
					t.Errorf("%s is for %v, not %v", program, file.Machine, want.elf)
				}
				if libraries, _ := file.ImportedLibraries(); len(libraries) > 0 {
					t.Errorf("%s needs %v of the machine", program, libraries)
				}
			}
			for _, name := range []string{
				"README.md", "LICENSE", "docs/command.md", "cdk.json", "package.json", "package-lock.json",
				"completions/berth.bash", "completions/berth.zsh", "completions/berth.fish",
			} {
				same(t, filepath.Join("../..", name), filepath.Join(dir, name))
			}
			for _, name := range []string{"infra", "node_modules", ".git", ".venv", "dist"} {
				if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
					t.Errorf("the archive has %s", name)
				}
			}
		})
	}
}

// TestImageSources holds the archive against the Dockerfile: what it copies from its context is there, and is enough.
func TestImageSources(t *testing.T) {
	dir := unpack(t, "linux_"+runtime.GOARCH)
	same(t, "../../.dockerignore", filepath.Join(dir, ".dockerignore"))
	dockerfile, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	copied := 0
	for _, line := range regexp.MustCompile(`(?m)^COPY (.*)$`).FindAllStringSubmatch(string(dockerfile), -1) {
		words := strings.Fields(line[1])
		if strings.HasPrefix(words[0], "--from=") {
			continue
		}
		for _, name := range words[:len(words)-1] {
			copied++
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Errorf("the Dockerfile copies %s: %v", name, err)
			}
		}
	}
	if copied == 0 {
		t.Error("the Dockerfile copies nothing, as this test reads it")
	}
	in(t, dir, "go", "build", "-o", filepath.Join(t.TempDir(), "programs")+"/", "./cmd/berthd", "./image/bill")
}

// TestUnpacked uses an archive for this machine as one does who has nothing else: no checkout, and no Go.
func TestUnpacked(t *testing.T) {
	dir := unpack(t, runtime.GOOS+"_"+runtime.GOARCH)
	berth := filepath.Join(dir, "bin/berth")
	version := strings.TrimPrefix(filepath.Base(dir), "berth_")
	version, _, _ = strings.Cut(version, "_")
	if got := strings.TrimSpace(in(t, dir, berth, "--version")); got != "berth "+version {
		t.Errorf("berth --version says %q in an archive of version %s", got, version)
	}
	if got := strings.TrimSpace(in(t, dir, filepath.Join(dir, "bin/berthd"), "--version")); got != "berthd "+version {
		t.Errorf("berthd --version says %q in an archive of version %s", got, version)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		want := strings.ReplaceAll(in(t, dir, berth, "completion", "-c", shell), berth, "berth")
		got, err := os.ReadFile(filepath.Join(dir, "completions/berth."+shell))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("completions/berth.%s is %q; berth prints %q", shell, got, want)
		}
	}
	in(t, dir, "npm", "ci", "--no-fund", "--no-audit", "--loglevel=error")
	template := in(t, dir, "npx", "cdk", "synth", "-c", "environment=staging")
	for _, part := range []string{"AWS::ECS::Service", "claude-code-staging", "AWS::EFS::FileSystem"} {
		if !strings.Contains(template, part) {
			t.Errorf("the template of the unpacked CDK app has no %s", part)
		}
	}
}

// TestUnpackedDeploys deploys with what is in an archive, on an emulator of AWS, and takes it down again. There is no builder here, as far as
// berth can see: `up` says so before it changes anything, and the rest works all the same.
func TestUnpackedDeploys(t *testing.T) {
	dir := unpack(t, runtime.GOOS+"_"+runtime.GOARCH)
	checkout, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	emulator, err := awstest.StartEmulator(ctx, checkout, t.TempDir(), os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if said, err := emulator.Stop(); err != nil {
			t.Errorf("the emulator: %v; it said:\n%s", err, said)
		}
	}()
	// The pinned Node.js of the checkout is not the user's.
	path := slices.DeleteFunc(filepath.SplitList(os.Getenv("PATH")), func(each string) bool { return strings.HasPrefix(each, checkout) })
	u := user{t: t, dir: dir, env: []string{
		"PATH=" + strings.Join(path, string(os.PathListSeparator)), "HOME=" + t.TempDir(), "AWS_ENDPOINT_URL=" + emulator.URL, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
		"AWS_EC2_METADATA_DISABLED=true", "DOCKER_HOST=unix://" + filepath.Join(dir, "none"), "BERTH_BUILDER=docker",
	}}
	u.says(0, "added", "npm", "ci", "--no-fund", "--no-audit")
	u.says(0, "✓ CDK CLI", "sh", "-c", "bin/berth doctor --env dev; true")
	u.says(1, "no program here can build an image", "bin/berth", "up", "--env", "dev")
	u.says(1, "there is no stack claude-code-dev", "bin/berth", "status", "--env", "dev")
	u.says(0, "EcrRepositoryUri", "npx", "cdk", "deploy", "--require-approval", "never", "-c", "logRetentionDays=3")
	u.says(0, "Number of stacks with differences: 0", "bin/berth", "diff", "--env", "dev")
	u.says(1, "no Anthropic key is set; `berth key set --env dev`", "bin/berth", "status", "--env", "dev")
	u.says(0, "dev ", "bin/berth", "env", "list")
	u.says(0, "Nothing is left of claude-code-dev.", "bin/berth", "down", "--env", "dev", "--yes")
	u.says(0, "complete -o bashdefault -o default -C 'berth' berth", "bash", "-c", "source completions/berth.bash && complete -p berth")
}

// user is somebody who has unpacked an archive.
type user struct {
	t   *testing.T
	dir string
	env []string
}

// says checks how a command ends, and that it says something.
func (u user) says(status int, want string, words ...string) {
	u.t.Helper()
	command := exec.CommandContext(u.t.Context(), words[0], words[1:]...)
	command.Dir, command.Env = u.dir, u.env
	if strings.ContainsRune(words[0], '/') {
		command.Path = filepath.Join(u.dir, words[0])
	}
	text, err := command.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		u.t.Fatalf("%q: %v", words, err)
	}
	if command.ProcessState.ExitCode() != status || !strings.Contains(string(text), want) {
		u.t.Fatalf("%q: exit status %d, want %d and %q:\n%s", words, command.ProcessState.ExitCode(), status, want, text)
	}
}

// unpack finds the archive for a machine, checks its sum, and unpacks it. It returns the one directory that is in it.
func unpack(t *testing.T, machine string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dist, "berth_*_"+machine+".tar.gz"))
	if err != nil || len(found) != 1 {
		t.Fatalf("dist has %d archives for %s (%v); `make release-check` builds them", len(found), machine, err)
	}
	packed, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %.1f MB", filepath.Base(found[0]), float64(len(packed))/1e6)
	sum := sha256.Sum256(packed)
	if want := sums(t)[filepath.Base(found[0])]; want != hex.EncodeToString(sum[:]) {
		t.Errorf("%s has the sum %x; checksums.txt says %s", found[0], sum, want)
	}
	dir := t.TempDir()
	if err := untar(packed, dir); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(dir, strings.TrimSuffix(filepath.Base(found[0]), ".tar.gz"))
	if _, err := os.Stat(inside); err != nil {
		t.Fatal(err)
	}
	return inside
}

func sums(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dist, "checksums.txt"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) == 2 {
			all[words[1]] = words[0]
		}
	}
	return all
}

func untar(packed []byte, dir string) error {
	unzipped, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	for files := tar.NewReader(unzipped); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !filepath.IsLocal(header.Name) {
			return fmt.Errorf("the archive has a file %q", header.Name)
		}
		name := filepath.Join(dir, header.Name)
		switch header.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(name, 0o755)
		case tar.TypeReg:
			err = write(name, files, header.FileInfo().Mode())
		default:
			err = fmt.Errorf("the archive's %q is neither a file nor a directory", header.Name)
		}
		if err != nil {
			return err
		}
	}
}

func write(name string, from io.Reader, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode.Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, file.Close())
}

// in runs a program in a directory, and returns what it writes to its standard output.
func in(t *testing.T, dir string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), args[0], args[1:]...)
	command.Dir = dir
	var stderr bytes.Buffer
	command.Stderr = &stderr
	// The CDK CLI shows a template without credentials; those of this machine are not for a test.
	command.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "AWS_") })
	command.Env = append(command.Env, "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, stderr.Bytes())
	}
	return string(output)
}

func same(t *testing.T, want, got string) {
	t.Helper()
	a, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%s is not the one of the checkout", got)
	}
}
