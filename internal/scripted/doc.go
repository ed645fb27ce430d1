// Package scripted is a scripted Anthropic Messages API: it stands in for the model in tests, in the
// demonstration and in benchmarks, behind the wire protocol of the real one.
//
//	server, err := scripted.New(scripted.Options{Scripts: []scripted.Script{{
//		Match: "count",
//		Steps: []scripted.Step{
//			scripted.Use(scripted.Bash("echo 1 >> f")),
//			scripted.Text("done"),
//		},
//	}}})
//	url, stop, err := server.Listen(ctx, "") // the url is for ANTHROPIC_BASE_URL
//
// # Which step comes
//
// The server keeps no conversation. Which script answers, and at which step, follows from the messages of
// the request alone: the script is that of the latest prompt that belongs to one, and the step is the
// number of replies after that prompt. A transcript that another process resumes therefore goes on where
// it was. A prompt that comes in the middle of a turn belongs to a script only if it matches one; if not,
// the turn goes on, and Request.Prompts has it. A prompt that begins a turn, and that no script takes, is
// quoted back.
//
// Three things are remembered, none of which decide on a step: how many requests met the faults of Fail;
// how many requests of a session came for a step of a script that has faults (a second turn with the same
// script in the same session counts on); and Requests, Total and Sessions, of which the last grows by an
// entry for each session.
//
// # What the Claude Code CLI sends
//
// Seen with 2.1.330, headless, with CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 and without:
//
//   - Nothing but POST /v1/messages?beta=true, with "stream": true, max_tokens 128000 and 12 tools (8 in a
//     subagent, none with --tools ""). No title, no probe and no count of tokens; other versions make some.
//   - A prompt is a text block after blocks of <system-reminder>, in the last user message; in later
//     requests the same prompt may be a plain string, or end in a line break.
//   - A message of role "system" after the first prompt names the working directory. After a resumption in
//     another directory there is one more, "Primary working directory: /new (was /old)".
//   - The blocks of a reply come back as one assistant message, and the results of its tools as one user
//     message, in the order in which they were ready.
//   - A prompt in mid-turn is a message of role "system" after the tool results, which begins "The user sent a
//     new message while you were working:"; two such prompts are in one block.
//   - After SIGKILL and --resume with CLAUDE_CODE_RESUME_INTERRUPTED_TURN=1, "Continue from where you left
//     off." is one more text block of the last user message: beside the tool results, or the prompt. A reply
//     that was cut before message_delta is gone, as is one whose only tool had not ended. Of a reply with two
//     tools, the one that had ended stays, and the other one is gone: the reply counts as given.
//   - Without that variable and with a new prompt, a tool that had not ended gets a made-up result, and an
//     assistant message "No response requested." comes before the prompt. The whole text blocks of a reply
//     that was cut stay, as an assistant message.
//   - After an interrupt, "[Request interrupted by user]" or "[… for tool use]" and the next prompt are text
//     blocks of one user message, after the results of the tools.
//   - /compact sends the conversation with a last block that begins "CRITICAL: Respond with TEXT ONLY."; what
//     comes later begins with "This session is being continued from a previous conversation". So a summary in
//     the middle of a turn would lose the step. It takes a reply with a large Usage to bring one about.
//   - When something in the background ends after the turn, there is one more request, with no prompt: it gets
//     the text that ends a script.
//   - The request after a tool is made before the transcript holds the tool's result: a SIGKILL within some
//     tenths of a second of it, and the tool is used again after the resumption.
//   - A 400 is tried once more, with fewer features in the header anthropic-beta.
//   - A stream that was cut is asked for again, with "stream": true, after half a second.
package scripted
