package awstest

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// FileSystem is in EFS.
type FileSystem struct {
	Tags    map[string]string
	Size    int
	Policy  string
	Targets map[string]string // mount targets: the subnet of each
}

// Files are the file systems by their ids.
func (w *World) Files() map[string]*FileSystem {
	found, is := w.Extra["efs"].(map[string]*FileSystem)
	if !is {
		found = map[string]*FileSystem{}
		w.Extra["efs"] = found
	}
	return found
}

// Lag has EFS take so many calls of an action for too early: what was just changed has not settled.
func (w *World) Lag(action string, calls int) { w.Extra["lag of "+action] = calls }

func (w *World) lags(action string) bool {
	left, _ := w.Extra["lag of "+action].(int)
	w.Lag(action, left-1)
	return left > 0
}

// AddVolume adds the file system of a stack, with its mount targets.
func (w *World) AddVolume(stack *Stack) *FileSystem {
	made := &FileSystem{Tags: maps.Clone(stack.Tags), Size: 1_500_000, Policy: `{"Version":"2012-10-17"}`, Targets: map[string]string{}}
	made.Tags["Name"] = stack.Name
	for i, subnet := range strings.Split(stack.Outputs["SubnetIds"], ",") {
		made.Targets[fmt.Sprintf("fsmt-%08d", i+1)] = subnet
	}
	w.Files()[stack.Outputs["EfsFileSystemId"]] = made
	return made
}

func init() {
	rest["elasticfilesystem"] = func(method, path string, query url.Values, input map[string]any) string {
		parts := strings.Split(strings.Trim(path, "/"), "/") // 2015-02-01/file-systems/fs-…/policy
		if len(parts) > 2 {
			input["id"] = parts[2]
		}
		if id := query.Get("FileSystemId"); id != "" {
			input["id"] = id
		}
		if len(parts) < 2 {
			return ""
		}
		return map[string]string{
			"GET file-systems": "DescribeFileSystems", "DELETE file-systems": "DeleteFileSystem",
			"GET file-systems policy": "DescribeFileSystemPolicy", "PUT file-systems policy": "PutFileSystemPolicy",
			"GET mount-targets": "DescribeMountTargets", "POST mount-targets": "CreateMountTarget", "DELETE mount-targets": "DeleteMountTarget",
			"GET mount-targets security-groups": "DescribeMountTargetSecurityGroups", "POST resource-tags": "TagResource",
		}[strings.TrimSpace(method+" "+parts[1]+" "+strings.Join(parts[min(3, len(parts)):], ""))]
	}
}

func noFileSystem(id string) error {
	return &Fault{404, "FileSystemNotFound", "File system '" + id + "' does not exist."}
}

var _ = register("elasticfilesystem", map[string]Handler{
	"DescribeFileSystems": func(w *World, c Call) (any, error) {
		all := []object{}
		for _, id := range slices.Sorted(maps.Keys(w.Files())) {
			if wanted := c.Text("id"); wanted != "" && wanted != id {
				continue
			}
			each := w.Files()[id]
			all = append(all, object{
				"FileSystemId": id, "LifeCycleState": "available", "NumberOfMountTargets": len(each.Targets), "SizeInBytes": object{"Value": each.Size},
				"Tags": pairs("Key", "Value", each.Tags),
			})
		}
		if len(all) == 0 && c.Text("id") != "" {
			return nil, noFileSystem(c.Text("id"))
		}
		return object{"FileSystems": all}, nil
	},
	"DeleteFileSystem": func(w *World, c Call) (any, error) {
		each := w.Files()[c.Text("id")]
		if each == nil {
			return nil, noFileSystem(c.Text("id"))
		}
		if len(each.Targets) > 0 || w.lags("DeleteFileSystem") {
			return nil, &Fault{409, "FileSystemInUse", "File system has mount targets"}
		}
		delete(w.Files(), c.Text("id"))
		return nil, nil //nolint:nilnil // an empty answer
	},
	"DescribeFileSystemPolicy": func(w *World, c Call) (any, error) {
		each := w.Files()[c.Text("id")]
		if each == nil {
			return nil, noFileSystem(c.Text("id"))
		}
		if each.Policy == "" {
			return nil, &Fault{404, "PolicyNotFound", "Policy not found"}
		}
		return object{"FileSystemId": c.Text("id"), "Policy": each.Policy}, nil
	},
	"PutFileSystemPolicy": func(w *World, c Call) (any, error) {
		w.Files()[c.Text("id")].Policy = c.Text("Policy")
		return object{"FileSystemId": c.Text("id")}, nil
	},
	"TagResource": func(w *World, c Call) (any, error) {
		tags, _ := c.Input["Tags"].([]any)
		for _, each := range tags {
			if tag, is := each.(map[string]any); is {
				w.Files()[c.Text("id")].Tags[fmt.Sprint(tag["Key"])] = fmt.Sprint(tag["Value"])
			}
		}
		return object{}, nil
	},
	"DescribeMountTargets": func(w *World, c Call) (any, error) {
		each := w.Files()[c.Text("id")]
		if each == nil {
			return nil, noFileSystem(c.Text("id"))
		}
		all := []object{}
		for _, target := range slices.Sorted(maps.Keys(each.Targets)) {
			all = append(all, object{"MountTargetId": target, "FileSystemId": c.Text("id"), "SubnetId": each.Targets[target], "LifeCycleState": "available"})
		}
		return object{"MountTargets": all}, nil
	},
	"DescribeMountTargetSecurityGroups": func(w *World, _ Call) (any, error) {
		if w.lags("DescribeMountTargetSecurityGroups") {
			return nil, &Fault{409, "IncorrectMountTargetState", "The mount target is being deleted"}
		}
		return object{"SecurityGroups": []any{"sg-0000000f"}}, nil
	},
	"CreateMountTarget": func(w *World, c Call) (any, error) {
		each := w.Files()[c.Text("FileSystemId")]
		if each == nil {
			return nil, noFileSystem(c.Text("FileSystemId"))
		}
		if each.Targets == nil {
			each.Targets = map[string]string{}
		}
		id := fmt.Sprintf("fsmt-1%07d", len(each.Targets)+1)
		each.Targets[id] = c.Text("SubnetId")
		return object{"MountTargetId": id, "FileSystemId": c.Text("FileSystemId"), "SubnetId": c.Text("SubnetId"), "LifeCycleState": "creating"}, nil
	},
	"DeleteMountTarget": func(w *World, c Call) (any, error) {
		for _, each := range w.Files() {
			delete(each.Targets, c.Text("id"))
		}
		return nil, nil //nolint:nilnil // an empty answer
	},
})
