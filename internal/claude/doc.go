// Package claude runs the Claude Code CLI, headless, and keeps the promises that the CLI does not.
//
// What was observed of the CLI (2.1.330), and what this package does about it:
//
//   - It has no lock: two processes can go on with one session. A Claim is the right to run a session, one
//     process's at a time, and it outlives a killed daemon until the session's last process is gone.
//   - It writes a line of output some 100 ms before the transcript that it would resume from has the
//     message. A killed process would take such a step again. Lines that are messages are therefore held
//     back until the transcript has them; what came after the last one of those never counted.
//   - A killed CLI leaves the commands of its Bash tool behind, as children of process 1 in sessions of
//     their own. Each CLI runs below a reaper (Reap), which inherits them, and ends them and itself when
//     the CLI has ended or when the daemon has gone.
//   - A message given with a UUID is answered by command_lifecycle lines with that UUID: queued, started,
//     completed. One that comes in the middle of a turn is taken up in that turn.
//   - It exits 0 after SIGINT, without any result if it was waiting for the model. Only a result tells.
//   - After the end of its input it waits for background commands and answers them with a second result.
package claude
