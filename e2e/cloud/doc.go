// Package cloud tests the agent's image as it runs in AWS: the Dockerfile is really built, and the image run as the synthesised task
// definition says, by a Docker daemon that the tests start.
//
// The tests have the build tag e2e; they need root, Debian's docker.io and mmdebstrap, and what `make setup` installs.
package cloud
