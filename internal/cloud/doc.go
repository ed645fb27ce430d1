// Package cloud is what berth sees of AWS: the stack, its service and tasks, its secrets, and the pinned CDK CLI, which alone
// changes the stack. Errors are for people: Explain makes them so.
package cloud
