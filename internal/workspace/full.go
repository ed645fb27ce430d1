package workspace

import (
	"errors"
	"strings"
	"syscall"
)

// Full reports whether an error says that a disk has no room left, or that its user may not take more of it.
func Full(err error) bool {
	failure := new(gitError)
	if errors.As(err, &failure) {
		for _, number := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
			if strings.Contains(strings.ToLower(failure.said), number.Error()) { // git has its first letter large
				return true
			}
		}
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
