// Package release tests what `goreleaser release --snapshot` leaves in dist/: that an unpacked archive is all that it takes.
//
// The tests have the build tag release, because building the archives takes minutes: `make release-check` does both.
package release
