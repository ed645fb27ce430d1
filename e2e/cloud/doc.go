// Package cloud tells the story of a deployment from nothing to nothing: berth's verbs with the real CDK CLI on an AWS emulator, the
// Dockerfile really built, and the image run as the deployed task definition says, by a Docker daemon that the tests start.
//
// The tests have the build tag e2e; they need root, Debian's docker.io and mmdebstrap, and what `make setup` installs.
package cloud
