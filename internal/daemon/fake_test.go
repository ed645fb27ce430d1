package daemon

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"berth/internal/claude"
	"berth/internal/contract"
)

// The test binary is also the reaper, and a Claude Code that does what its messages say.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "reap" {
		os.Exit(claude.Reap(os.Args[2], os.Args[3:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "-p" {
		cli := &fakeCLI{transcript: filepath.Join(os.Getenv("CLAUDE_CONFIG_DIR"), "projects", "p", os.Getenv(contract.EnvSession)+".jsonl")}
		os.Exit(cli.run())
	}
	os.Exit(m.Run())
}

// fakeCLI answers messages as Claude Code does. A message is one of
//
//	reply TEXT   which is a turn of one reply
//	wait FILE    a turn that ends when the file is there
//	apierror     a turn that fails
//	maxturns     a turn that reaches its limit
//	crash        an end without a word
//	chatter      a turn that says ever more
type fakeCLI struct {
	transcript string
	failed     bool
}

func (c *fakeCLI) run() int {
	if slices.Contains(os.Args, "--resume") {
		c.goOn()
	}
	input := bufio.NewReader(os.Stdin)
	for {
		text, err := input.ReadString('\n')
		if err != nil {
			if c.failed {
				return 1
			}
			return 0
		}
		var message struct {
			UUID    string
			Message struct{ Content string }
		}
		if json.Unmarshal([]byte(text), &message) != nil {
			return 1
		}
		if message.Message.Content == "crash" {
			return 1
		}
		c.print(map[string]any{"type": "command_lifecycle", "command_uuid": message.UUID, "state": "started"})
		c.write(map[string]any{"type": "user", "uuid": message.UUID, "message": map[string]any{"role": "user", "content": message.Message.Content}})
		c.turn(message.Message.Content)
		c.print(map[string]any{"type": "command_lifecycle", "command_uuid": message.UUID, "state": "completed"})
	}
}

// goOn takes up a turn that was cut off.
func (c *fakeCLI) goOn() {
	text, err := os.ReadFile(c.transcript)
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	var last struct {
		Type    string
		Message struct{ Content string }
	}
	if json.Unmarshal([]byte(lines[len(lines)-1]), &last) == nil && last.Type == "user" {
		c.turn(last.Message.Content)
	}
}

func (c *fakeCLI) turn(task string) {
	c.print(map[string]any{"type": "system", "subtype": "init"})
	word, rest, _ := strings.Cut(task, " ")
	result := map[string]any{"type": "result", "subtype": "success", "is_error": false, "result": rest, "total_cost_usd": 0.01}
	switch word {
	case "wait":
		for tick := time.NewTicker(2 * time.Millisecond); ; {
			if _, err := os.Stat(rest); err == nil {
				break
			}
			<-tick.C
		}
	case "chatter":
		for {
			c.print(map[string]any{"type": "chatter", "text": strings.Repeat("x", 1000)})
		}
	case "apierror":
		result["is_error"] = true
	case "maxturns":
		result["is_error"], result["subtype"] = true, "error_max_turns"
	}
	c.failed = result["is_error"] == true
	reply := map[string]any{
		"type": "assistant", "uuid": uuid.NewString(),
		"message": map[string]any{"id": uuid.NewString(), "model": "m", "stop_reason": "end_turn", "content": []any{map[string]any{"type": "text", "text": rest}}},
	}
	c.print(reply)
	c.write(reply)
	c.print(result)
}

func (c *fakeCLI) print(line map[string]any) {
	text, err := json.Marshal(line)
	if err == nil {
		fmt.Println(string(text))
	}
}

func (c *fakeCLI) write(line map[string]any) {
	text, err := json.Marshal(line)
	if err != nil {
		return
	}
	_ = os.MkdirAll(filepath.Dir(c.transcript), 0o700)
	file, err := os.OpenFile(c.transcript, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	_, _ = file.Write(append(text, '\n'))
	_ = file.Close()
}
