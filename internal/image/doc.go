// Package image builds the agent's image with a builder that this machine has, and pushes it to the registry of a stack, from
// where it is rolled out by its digest.
//
// The image's tag in the registry is a hash of what it is built from. So an image that is there is not built again, on this
// machine or another one, and a push that was cut off is taken up where it was: layers that have arrived are not sent again.
package image
