package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/config"
)

func newHealthcheck(env *Environment) *cobra.Command {
	var file string
	var live bool
	cmd := &cobra.Command{
		Use:   "healthcheck [--config FILE]",
		Short: "Ask the service on this machine whether it is ready",
		Long: `Ask the service on this machine whether it can do its work (/readyz), or with
--live only whether it runs (/livez). It finds the admin listener as serve does: in
the same file, or in the same environment. It is for containers, which have no
curl. The exit code is 0 for yes and 1 for no.`,
		Example: `  signalbox healthcheck
  signalbox healthcheck --config /etc/signalbox/signalbox.yaml --live`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			address, err := config.AdminAddress(file, os.Environ())
			if err != nil {
				return err
			}
			path := "/readyz"
			if live {
				path = "/livez"
			}
			return healthy(cmd.Context(), env.Err, "http://"+reachable(address)+path)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file of the service (YAML)")
	cmd.Flags().BoolVar(&live, "live", false, "ask only whether it runs")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

// reachable is where somebody who listens everywhere is found from here.
func reachable(address string) string {
	host, port, _ := net.SplitHostPort(address)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}

// healthLimit is below the time that container engines give a check.
const healthLimit = 5 * time.Second

func healthy(ctx context.Context, errors io.Writer, url string) error {
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{}} // through no proxy
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("no service answers: %w", err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10)) // the status is the answer
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", url, response.Status, strings.TrimSpace(string(body)))
	}
	fmt.Fprintln(errors, strings.TrimSpace(string(body)))
	return nil
}
