package scripted

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"
)

// Load reads scripts from YAML: a list under "scripts", of the fields of Script by the names in their
// yaml tags. Durations are strings as in Go ("250ms"). The error names the line, or the script and step.
func Load(r io.Reader) ([]Script, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var (
		file struct {
			Scripts []Script `yaml:"scripts"`
		}
		root yaml.Node
		more any
	)
	decoder := yaml.NewDecoder(bytes.NewReader(data))
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
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, err
	}
	if err := checkDurations(&root); err != nil {
		return nil, err
	}
	if _, err := compile(file.Scripts); err != nil {
		return nil, err
	}
	return file.Scripts, nil
}

// checkDurations refuses durations that are bare numbers, which the decoder takes for nanoseconds.
func checkDurations(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		for _, child := range node.Content {
			if err := checkDurations(child); err != nil {
				return err
			}
		}
		return nil
	}
	for index := 0; index+1 < len(node.Content); index += 2 {
		key, value := node.Content[index].Value, node.Content[index+1]
		switch key {
		case "input": // belongs to the tool
		case "delay", "pause", "retry_after":
			if value.ShortTag() == "!!int" {
				return fmt.Errorf("line %d: %s has no unit: write it as \"%sms\" or \"%ss\"", value.Line, key, value.Value, value.Value)
			}
		default:
			if err := checkDurations(value); err != nil {
				return err
			}
		}
	}
	return nil
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
