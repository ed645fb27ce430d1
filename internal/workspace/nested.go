package workspace

import (
	"context"
	"os"
)

func (s *scratch) nested(ctx context.Context, root *os.Root, dirs []string, c *captured) error {
	for _, dir := range dirs {
		c.leaveOut(dir + "/: it is a repository of its own")
	}
	return nil
}
