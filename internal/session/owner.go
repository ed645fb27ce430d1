package session

import (
	"fmt"
	"os"

	"github.com/google/uuid"
)

// Owner is a daemon that holds sessions.
type Owner struct {
	ID string `json:"id"` // no other one has it

	// By these a daemon knows whether another one on the same machine still lives. Empty where that cannot be told.
	Host    string `json:"host,omitempty"`
	Boot    string `json:"boot,omitempty"`  // the machine's start
	Space   string `json:"space,omitempty"` // the space that process ids are of: containers have their own
	PID     int    `json:"pid,omitempty"`
	Started string `json:"started,omitempty"` // the process's start
}

// self is this process. Each call makes another owner of it.
func self() Owner {
	host, _ := os.Hostname()
	o := Owner{Host: host, PID: os.Getpid()}
	o.Boot, o.Space = machine()
	o.Started = started(o.PID)
	o.ID = fmt.Sprintf("%s-%d-%s", host, o.PID, uuid.NewString()[:8])
	return o
}

// dead reports whether an owner certainly lives no more.
func (o Owner) dead(seenBy Owner) bool {
	if o.Boot == "" || o.Space == "" || o.Started == "" || o.Host != seenBy.Host || o.Boot != seenBy.Boot || o.Space != seenBy.Space {
		return false
	}
	return started(o.PID) != o.Started
}
