package agent

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/signalbox-sts/signalbox/internal/config"
)

const hookLimit = 30 * time.Second

// hookOf runs the program of on_change. It gets names and no token, and nothing that
// it prints is kept: that may be the token.
func hookOf(t config.AgentToken, limit time.Duration) func(context.Context) error {
	if len(t.OnChange) == 0 {
		return nil
	}
	env := []string{"SIGNALBOX_TOKEN_NAME=" + t.Name}
	if t.File.Path != "" {
		env = append(env, "SIGNALBOX_TOKEN_FILE="+t.File.Path)
	}
	if t.Kubeconfig.Path != "" {
		env = append(env, "SIGNALBOX_KUBECONFIG_FILE="+t.Kubeconfig.Path)
	}
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		cmd := exec.CommandContext(ctx, t.OnChange[0], t.OnChange[1:]...)
		cmd.Env = append(os.Environ(), env...)
		cmd.Dir = string(os.PathSeparator)
		inGroup(cmd)
		err := cmd.Run()
		if ctx.Err() == context.DeadlineExceeded {
			return fmt.Errorf("%s was still running after %v", t.OnChange[0], limit)
		}
		return err
	}
}
