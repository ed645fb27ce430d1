// Package local holds the tests of the agent as a whole: the real berth and berthd, the real Claude Code CLI, and a
// scripted model behind the same protocol as the real one. They run with the build tag e2e.
package local
