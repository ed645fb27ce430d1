package awstest

import (
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// SaveImage writes an image for Linux to a file, as `docker save` does with one that was built. Its one layer is random: it is like no other.
func SaveImage(file, architecture string) error {
	made, err := random.Image(1024, 1)
	if err != nil {
		return err
	}
	config, err := made.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	if made, err = mutate.ConfigFile(made, config); err != nil {
		return err
	}
	tag, err := name.NewTag("claude-code-agent:latest")
	if err != nil {
		return err
	}
	return tarball.WriteToFile(file, tag, made)
}
