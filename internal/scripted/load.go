package scripted

import (
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"
)

// Load reads scripts from YAML: a list under "scripts", of the fields of Script by the names in their
// yaml tags. Durations are strings as in Go ("250ms"). The error names the line, or the script and step.
func Load(r io.Reader) ([]Script, error) {
	var (
		file struct {
			Scripts []Script `yaml:"scripts"`
		}
		more any
	)
	decoder := yaml.NewDecoder(r)
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if decoder.Decode(&more) == nil {
		return nil, errors.New("there are two documents in the file: put all scripts into one")
	}
	if len(file.Scripts) == 0 {
		return nil, errors.New(`there are no scripts: list them under "scripts"`)
	}
	if _, err := compile(file.Scripts); err != nil {
		return nil, err
	}
	return file.Scripts, nil
}

// LoadFile reads scripts from a YAML file, as Load does. The error names the file.
func LoadFile(name string) ([]Script, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	scripts, err := Load(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return scripts, nil
}
