package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"berth/internal/api"
)

// healthTime is less than the time that the container's health check grants.
const healthTime = 4 * time.Second

type health struct{}

// Run asks the agent that uses the volume whether it can run sessions.
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
	status, err := api.NewClient(endpoint).Status(limited)
	if err != nil {
		return err
	}
	if len(status.Problems) > 0 {
		return errors.New(strings.Join(status.Problems, "; "))
	}
	return nil
}
