// Package e2e tests berth from outside, with the tools that its users have: the CDK CLI and the aws CLI,
// run as the specification writes their commands, on an AWS emulator that each test starts for itself.
//
// The tests have the build tag e2e, because they take minutes and what `make setup` installs:
// `make test` runs them.
package e2e
