package dockertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// TaskDefinition is what ECS's task definitions have that decides how the container runs. It has the names of ECS's API; see
// FromTemplate for those of CloudFormation.
type TaskDefinition struct {
	CPU                  string       `json:"cpu"`
	Memory               string       `json:"memory"`
	ContainerDefinitions []Definition `json:"containerDefinitions"`
	Volumes              []struct {
		Name string          `json:"name"`
		EFS  json.RawMessage `json:"efsVolumeConfiguration"`
	} `json:"volumes"`
}

// Definition is a container's.
type Definition struct {
	Name                   string
	Image                  any // in a template it is an expression
	User                   string
	ReadonlyRootFilesystem bool
	StopTimeout            int
	Environment            []struct{ Name, Value string }
	Secrets                []struct {
		Name      string
		ValueFrom any
	}
	LinuxParameters struct {
		Capabilities       struct{ Add, Drop []string }
		InitProcessEnabled bool
	}
	Ulimits []struct {
		Name                 string
		SoftLimit, HardLimit int
	}
	HealthCheck struct {
		Command                                 []string
		Interval, Timeout, Retries, StartPeriod int
	}
	MountPoints []struct {
		SourceVolume, ContainerPath string
		ReadOnly                    bool
	}
	LogConfiguration struct {
		LogDriver string
		Options   map[string]any
	}
}

// FromTemplate reads the one task definition of a CloudFormation template.
func FromTemplate(text []byte) (TaskDefinition, error) {
	var template struct {
		Resources map[string]struct {
			Type       string
			Properties map[string]any
		}
	}
	if err := json.Unmarshal(text, &template); err != nil {
		return TaskDefinition{}, err
	}
	for _, resource := range template.Resources {
		if resource.Type == "AWS::ECS::TaskDefinition" {
			text, err := json.Marshal(lowerKeys(resource.Properties))
			if err != nil {
				return TaskDefinition{}, err
			}
			return Read(text)
		}
	}
	return TaskDefinition{}, errors.New("the template has no AWS::ECS::TaskDefinition")
}

// Read reads a task definition as ECS's API has it. It has to have one container, and nothing that Task.Start would leave out.
func Read(text []byte) (definition TaskDefinition, err error) {
	if err := json.Unmarshal(text, &definition); err != nil {
		return definition, err
	}
	if count := len(definition.ContainerDefinitions); count != 1 {
		return definition, fmt.Errorf("the task definition has %d containers", count)
	}
	var raw struct {
		ContainerDefinitions []map[string]json.RawMessage `json:"containerDefinitions"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return definition, err
	}
	for name, value := range raw.ContainerDefinitions[0] {
		if !slices.Contains(known, strings.ToLower(name)) && !slices.Contains([]string{"[]", "{}", "0", "null", `""`}, string(value)) {
			return definition, fmt.Errorf("the container's %s is %s, and dockertest would leave that out", name, value)
		}
	}
	return definition, nil
}

// known are the members of a container's definition that have an effect on Fargate and here, or none on either.
var known = []string{
	"name", "image", "user", "readonlyrootfilesystem", "stoptimeout", "environment", "secrets", "linuxparameters", "ulimits",
	"healthcheck", "mountpoints", "logconfiguration", "essential", "portmappings",
}

// lowerKeys gives CloudFormation's names the form of those of the API.
func lowerKeys(value any) any {
	switch value := value.(type) {
	case map[string]any:
		lower := make(map[string]any, len(value))
		for name, inner := range value {
			first := []rune(name)
			first[0] = unicode.ToLower(first[0])
			if strings.HasPrefix(name, "EFS") {
				first = []rune("efs" + name[3:])
			}
			lower[string(first)] = lowerKeys(inner)
		}
		return lower
	case []any:
		for i := range value {
			value[i] = lowerKeys(value[i])
		}
	}
	return value
}

// Task is a container to be run as a task definition says.
type Task struct {
	Definition TaskDefinition
	Image      string // in place of the definition's
	Name       string // of the container
	Volume     string // a directory of this machine, in the place of the file system

	// Secrets are the values, by the variables' names, that the definition takes from Secrets Manager.
	Secrets map[string]string

	// Overrides are variables that have other values than the definition's, and what the platform adds to them.
	Overrides map[string]string
}

// Words are the arguments of `docker run`, without the image. The environment is not among them: its secrets are for a file.
func (t Task) Words() ([]string, error) {
	definition := t.Definition.ContainerDefinitions[0]
	words := []string{"--network=host", "--name", t.Name, "--user", definition.User}
	if definition.ReadonlyRootFilesystem {
		words = append(words, "--read-only")
	}
	if definition.LinuxParameters.InitProcessEnabled {
		words = append(words, "--init")
	}
	for _, each := range definition.LinuxParameters.Capabilities.Drop {
		words = append(words, "--cap-drop", each)
	}
	for _, each := range definition.LinuxParameters.Capabilities.Add {
		words = append(words, "--cap-add", each)
	}
	for _, each := range definition.Ulimits {
		most, err := mostFiles(each.Name)
		if err != nil {
			return nil, err
		}
		words = append(words, "--ulimit", fmt.Sprintf("%s=%d:%d", each.Name, min(each.SoftLimit, most), min(each.HardLimit, most)))
	}
	units, err := strconv.ParseFloat(t.Definition.CPU, 64)
	if err != nil {
		return nil, fmt.Errorf("the task's CPU: %w", err)
	}
	words = append(words, "--stop-timeout", strconv.Itoa(definition.StopTimeout),
		"--memory", t.Definition.Memory+"m", "--memory-swap", t.Definition.Memory+"m", "--cpus", strconv.FormatFloat(min(units/1024, float64(runtime.NumCPU())), 'f', 2, 64))
	health, err := healthWords(definition)
	if err != nil {
		return nil, err
	}
	mounts, err := t.mounts()
	return slices.Concat(words, health, mounts), err
}

// mostFiles is the highest limit that this machine lets a container have: root without CAP_SYS_RESOURCE cannot raise its own.
func mostFiles(name string) (int, error) {
	if name != "nofile" {
		return 0, fmt.Errorf("the ulimit %s is not known here", name)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return int(min(limit.Max, math.MaxInt32)), nil
}

// healthWords are for the definition's health check. Docker's client takes a command for the shell only.
func healthWords(definition Definition) ([]string, error) {
	check := definition.HealthCheck
	if len(check.Command) < 2 || check.Command[0] != "CMD" || strings.ContainsAny(strings.Join(check.Command, ""), `'"\$ `) {
		return nil, fmt.Errorf("a health check that cannot be handed on: %q", check.Command)
	}
	return []string{
		"--health-cmd", strings.Join(check.Command[1:], " "), "--health-retries", strconv.Itoa(check.Retries),
		"--health-interval", seconds(check.Interval), "--health-timeout", seconds(check.Timeout), "--health-start-period", seconds(check.StartPeriod),
	}, nil
}

func seconds(count int) string { return (time.Duration(count) * time.Second).String() }

// mounts are for the definition's volumes. One without a configuration begins, on Fargate as in Docker, with what the image has there.
func (t Task) mounts() (words []string, err error) {
	for _, point := range t.Definition.ContainerDefinitions[0].MountPoints {
		words = append(words, "--mount")
		i := slices.IndexFunc(t.Definition.Volumes, func(volume struct {
			Name string          `json:"name"`
			EFS  json.RawMessage `json:"efsVolumeConfiguration"`
		},
		) bool {
			return volume.Name == point.SourceVolume
		})
		switch {
		case i < 0:
			return nil, fmt.Errorf("there is no volume %q", point.SourceVolume)
		case len(t.Definition.Volumes[i].EFS) > 0 && string(t.Definition.Volumes[i].EFS) != "null":
			words = append(words, "type=bind,source="+t.Volume+",destination="+point.ContainerPath)
		default:
			words = append(words, "type=volume,destination="+point.ContainerPath)
		}
		if point.ReadOnly {
			words[len(words)-1] += ",readonly"
		}
	}
	return words, nil
}

// environment are the lines of a file for Docker.
func (t Task) environment() (string, error) {
	values := map[string]string{}
	definition := t.Definition.ContainerDefinitions[0]
	for _, each := range definition.Environment {
		values[each.Name] = each.Value
	}
	for _, each := range definition.Secrets {
		value, given := t.Secrets[each.Name]
		if !given {
			return "", fmt.Errorf("the definition has a secret %s that has no value here", each.Name)
		}
		values[each.Name] = value
	}
	var text bytes.Buffer
	for name, value := range t.Overrides {
		values[name] = value
	}
	for name, value := range values {
		if strings.ContainsAny(value, "\r\n") {
			return "", fmt.Errorf("the value of %s has more than one line", name)
		}
		_, _ = fmt.Fprintf(&text, "%s=%s\n", name, value)
	}
	return text.String(), nil
}

// Start starts the container, and returns its id.
func (d *Daemon) Start(ctx context.Context, task Task) (id string, err error) {
	words, err := task.Words()
	if err != nil {
		return "", err
	}
	environment, err := task.environment()
	if err != nil {
		return "", err
	}
	file, err := os.CreateTemp(filepath.Dir(d.log), "environment")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.Remove(file.Name())) }()
	_, err = io.WriteString(file, environment)
	if err := errors.Join(err, file.Close()); err != nil {
		return "", err
	}
	return d.Docker(ctx, slices.Concat([]string{"run", "--detach", "--env-file", file.Name()}, words, []string{task.Image})...)
}

// State is how a container is.
type State struct {
	Status    string // running, exited, …
	OOMKilled bool
	ExitCode  int
	Pid       int
	Health    struct{ Status string }
}

// Inspect looks at a container.
func (d *Daemon) Inspect(ctx context.Context, id string) (state State, err error) {
	text, err := d.Docker(ctx, "inspect", "--format", "{{json .State}}", id)
	if err != nil {
		return state, err
	}
	return state, json.Unmarshal([]byte(text), &state)
}
