// Package scripted is a scripted Anthropic Messages API: it stands in for the model in tests, in the
// demonstration and in benchmarks, behind the wire protocol of the real one.
package scripted
