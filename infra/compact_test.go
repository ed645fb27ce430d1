package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSubstitution(t *testing.T) {
	for name, tt := range map[string]struct {
		resolved any
		want     string
	}{
		"references": {map[string]any{"Fn::Join": []any{"", []any{`{"a":"`, map[string]any{"Ref": "AWS::Region"}, `"}`}}}, `{"a":"${AWS::Region}"}`},
		"one":        {map[string]any{"Ref": "Logs"}, "${Logs}"},
		"no text":    {map[string]any{"Fn::Join": []any{"", []any{"costs ${5}"}}}, "costs ${!5}"},
	} {
		if got, err := substitution(tt.resolved); err != nil || got != tt.want {
			t.Errorf("%s: %q (%v), want %q", name, got, err, tt.want)
		}
	}
	for _, resolved := range []any{
		map[string]any{"Fn::Join": []any{",", []any{"a", "b"}}},
		map[string]any{"Fn::Join": []any{"", []any{map[string]any{"Fn::GetAtt": []any{"A", "Arn"}}}}},
	} {
		if got, err := substitution(resolved); err == nil {
			t.Errorf("%v became %q", resolved, got)
		}
	}
}

func TestCompactBody(t *testing.T) {
	got, err := compactBody(`{"widgets":[{"type":"metric","width":8,"height":6,"x":0,"y":0,"properties":{"view":"timeSeries","title":"a <b>",
		"region":"r","metrics":[["N","One","D","x",{"stat":"Sum"}],[{"expression":"m/2"}],["N","Two","D","x",{"stat":"Sum"}],["O","Two","D","y"]],"yAxis":{}}},
		{"type":"log","width":24,"height":8,"x":0,"y":6,"properties":{"view":"table","title":"t","region":"r","query":"q"}}]}`)
	want := `{"widgets":[{"type":"metric","x":0,"y":0,"width":8,"properties":{"title":"a <b>","region":"r",` +
		`"metrics":[[{"expression":"m/2"}],["N","One","D","x",{"stat":"Sum"}],[".","Two",".",".",{"stat":"Sum"}],["O",".",".","y"]]}},` +
		`{"type":"log","x":0,"y":6,"width":24,"height":8,"properties":{"title":"t","view":"table","region":"r","query":"q"}}]}`
	if err != nil || got != want {
		t.Errorf("%v\n%s, want\n%s", err, got, want)
	}
	if got, err := compactBody(`{"widgets":[{"type":"metric","properties":{"annotations":{}}}]}`); err == nil {
		t.Errorf("a field that it does not know is left out: %s", got)
	}
}

// Each graph of every variant says in full what it said before it was made shorter.
func TestDashboardReadsInFull(t *testing.T) {
	each(t, func(t *testing.T, made template) {
		body, ok := at(made.one(t, "AWS::CloudWatch::Dashboard", "").Properties, "DashboardBody", "Fn::Sub").(string)
		if !ok {
			t.Fatal("the dashboard's body is no Fn::Sub")
		}
		var dashboard struct{ Widgets []widget }
		if err := json.Unmarshal([]byte(body), &dashboard); err != nil {
			t.Fatal(err)
		}
		var graphs []string
		for _, widget := range dashboard.Widgets {
			var before []any
			for _, line := range widget.Properties.Metrics {
				if len(line) == 1 {
					continue
				}
				for i := range line {
					if line[i] == "." {
						line[i] = before[i]
					}
				}
				before = line
				var words []string
				for _, part := range line {
					if word, ok := part.(string); ok {
						words = append(words, word)
					}
				}
				graphs = append(graphs, strings.Join(words, " "))
			}
		}
		name, volume := made.options.Names().Stack(), "FileSystemId "+made.options.FileSystemID
		if made.options.FileSystemID == "" {
			volume = "FileSystemId ${StorageFileSystemFFD87EE1}"
		}
		agent, service := "Environment "+made.options.Names().MetricEnvironment(), "ClusterName "+name+" ServiceName "+name
		want := []string{
			"ClaudeCodeAgent SessionSuccess " + agent, "ClaudeCodeAgent SessionSuccess " + agent, "ClaudeCodeAgent ActiveSessions " + agent,
			"ClaudeCodeAgent QueueDepth " + agent, "ClaudeCodeAgent Interruptions " + agent, "ClaudeCodeAgent Resumes " + agent,
			"ClaudeCodeAgent SessionDuration " + agent, "ClaudeCodeAgent SessionDuration " + agent,
			"ClaudeCodeAgent SpendMonth " + agent, "ClaudeCodeAgent SessionCost " + agent,
			"AWS/ECS CPUUtilization " + service, "AWS/ECS MemoryUtilization " + service,
			"ECS/ContainerInsights DesiredTaskCount " + service, "ECS/ContainerInsights RunningTaskCount " + service, "ClaudeCodeAgent SessionTokens " + agent,
			"AWS/EFS DataReadIOBytes " + volume, "AWS/EFS DataWriteIOBytes " + volume,
			"AWS/EFS DataReadIOBytes " + volume, "AWS/EFS DataWriteIOBytes " + volume, "AWS/EFS MetadataIOBytes " + volume,
			"AWS/EFS BurstCreditBalance " + volume,
		}
		if diff := cmp.Diff(want, graphs); diff != "" {
			t.Errorf("the graphs' metrics (-want +got):\n%s", diff)
		}
	})
}
