package scripted

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Demo returns the scripts of the demonstration. Whatever the prompt, the model says that it is scripted,
// looks around, writes a small program with a test, runs the test, commits both and says so. It takes about
// four seconds and what the commands take. The program is one of the shell, which every machine has and which
// starts at once: a compiler would first build its library anew in each session's HOME. The prompt gets
// into the program as a comment, without anything that could end one.
//
// Outside a git repository nothing is committed. What the last reply says holds in each case: it claims
// no outcome.
func Demo() []Script {
	steps := []Step{
		{
			Text:  "I am a scripted stand-in, not a real model: I do the same small thing whatever I am asked. First I look around.",
			Tools: []Tool{Bash("git log --oneline -5; ls -la")},
		},
		{Compute: demoWrite},
		{Compute: demoTest},
		{Compute: demoCommit},
		{Compute: demoEnd},
	}
	for index, step := range steps {
		if step.Compute == nil {
			steps[index] = atDemoPace(step)
		}
	}
	return []Script{{Name: "demo", Steps: steps}}
}

// atDemoPace sends a step so that somebody can watch it.
func atDemoPace(step Step) Step {
	step.Delay, step.Pause, step.Chunk = 300*time.Millisecond, 12*time.Millisecond, 24
	step.Usage = Usage{Input: 1, Output: 1} // the CLI reckons what it would cost: next to nothing, as it does
	return step
}

// demoDir is where a prompt's program goes: the CLI does not write over files that it has not read, and
// several sessions may share a repository.
func demoDir(r Request) string {
	sum := sha256.Sum256([]byte(r.Session + "\n" + r.Prompt))
	return fmt.Sprintf("greeting-%x", sum[:3])
}

// demoTask is the first line of what was asked for, fit for a comment: a control character could end it.
func demoTask(r Request) string {
	task := []rune(strings.Map(func(char rune) rune {
		if unicode.IsControl(char) || char == '\u2028' || char == '\u2029' {
			return ' '
		}
		return char
	}, strings.ToValidUTF8(firstLine(r.Prompt), "?")))
	if len(task) > 120 {
		task = append(task[:119], '…')
	}
	return string(task)
}

// demoFiles are the files of the program, by name.
func demoFiles(r Request) [][2]string {
	return [][2]string{
		{"greet.sh", `#!/bin/sh
# Greets somebody by name. A scripted stand-in wrote it, not a model.
# Asked for: ` + demoTask(r) + `
printf 'Hello, %s!\n' "${1:-world}"
`},
		{"greet_test.sh", `#!/bin/sh
# Tests greet.sh.
cd "$(dirname "$0")" || exit 1
failed=0
expect() {
	got=$(sh greet.sh $1)
	if [ "$got" = "$2" ]; then echo "ok: $got"; else echo "FAIL: got $got, want $2"; failed=1; fi
}
expect '' 'Hello, world!'
expect Ada 'Hello, Ada!'
exit $failed
`},
	}
}

func demoWrite(r Request) Step {
	step := Step{Text: "Now I write a program that greets, and a test for it."}
	dir := demoDir(r)
	if r.Cwd != "" {
		for _, file := range demoFiles(r) {
			step.Tools = append(step.Tools, Write(strings.TrimSuffix(r.Cwd, "/")+"/"+dir+"/"+file[0], file[1]))
		}
		return atDemoPace(step)
	}
	// The shell knows where it is. No line of a file can be the delimiter, as the task has no line breaks.
	var b strings.Builder
	fmt.Fprintf(&b, "mkdir -p %s", dir)
	for _, file := range demoFiles(r) {
		fmt.Fprintf(&b, "\ncat > %s/%s <<'END_OF_DEMO_FILE'\n%sEND_OF_DEMO_FILE", dir, file[0], file[1])
	}
	step.Tools = []Tool{Bash(b.String())}
	return atDemoPace(step)
}

func demoTest(r Request) Step {
	return atDemoPace(Step{
		Text:  "Does it work? The test will tell.",
		Tools: []Tool{Bash("sh " + demoDir(r) + "/greet_test.sh")},
	})
}

func demoCommit(r Request) Step {
	return atDemoPace(Step{
		Text: "I commit it.",
		Tools: []Tool{Bash(`(dir=` + demoDir(r) + `
git rev-parse --git-dir >/dev/null 2>&1 || { echo "not in a git repository: nothing to commit"; exit 0; }
git var GIT_COMMITTER_IDENT >/dev/null 2>&1 && git var GIT_AUTHOR_IDENT >/dev/null 2>&1 ||
  set -- -c user.name="Scripted stand-in" -c user.email=scripted@example.com
git add -- "$dir" && { git diff --cached --quiet -- "$dir" ||
  git "$@" commit --quiet --no-gpg-sign -m "Add a greeting" -- "$dir"; } && git log -1 --stat --oneline)`)},
	})
}

func demoEnd(r Request) Step {
	text := fmt.Sprintf("That was it: I wrote a program and its test in %s/, ran the test and went to commit it; the results are above. You had asked: “%s”.",
		demoDir(r), firstLine(r.Prompt))
	if last := len(r.Prompts) - 1; last >= 0 && r.Prompts[last] != r.Prompt {
		text += fmt.Sprintf(" You then added: “%s”.", firstLine(r.Prompts[last]))
	}
	return atDemoPace(Text(text + " As a scripted stand-in I could do no more about it than to quote it."))
}
