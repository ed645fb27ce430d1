package main

import (
	"context"
	"os"
	"time"

	"berth/internal/api"
)

// healthTime is less than the time that the container's health check grants.
const healthTime = 4 * time.Second

type health struct{}

// Run asks the agent that uses the volume whether it answers. How it is is not asked: that takes it time when it has much
// to do, and an agent that is busy must not be ended for it. Nor is what keeps sessions from running: a
// container that is ended for a full volume would start again on the same one.
func (health) Run(ctx context.Context) error {
	data, err := api.LocalData(os.Getenv)
	if err != nil {
		return err
	}
	endpoint, err := api.ReadEndpoint(data)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	return api.NewClient(endpoint).Healthy(limited)
}
