package ops

import (
	"strings"
	"testing"
)

func TestWritePatch(t *testing.T) {
	var all streams
	to := terminalFor(&all, 80)
	if err := writePatch(to, "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\x1b[2J\n+b\r\n c\n"); err != nil {
		t.Fatal(err)
	}
	want := "<bold>diff --git a/x b/x<>\n<bold>--- a/x<>\n<bold>+++ b/x<>\n<cyan>@@ -1 +1 @@<>\n<red>-a<>\n<green>+b<>\n c\n"
	got := strings.NewReplacer(bold, "<bold>", cyan, "<cyan>", red, "<red>", green, "<green>", plain, "<>").Replace(all.text.String())
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
