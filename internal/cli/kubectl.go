package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/argocd"
)

// kubectl is the program that reaches a cluster as its user does, by whatever
// plugin, certificate or proxy the kubeconfig names.
type kubectl struct{ kubeconfig string }

// refusedByServer is what an API server did not do. Its text is in it only where
// nothing secret was sent.
type refusedByServer struct{ reason, text string }

func (e *refusedByServer) Error() string { return e.text }

// maxList bounds one page: each of 50 Secrets has a megabyte at most.
const maxList = 100 << 20

func (k kubectl) run(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	if k.kubeconfig != "" {
		args = append([]string{"--kubeconfig", k.kubeconfig}, args...)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, errs := &bounded{left: maxList}, &bounded{left: 64 << 10}
	cmd := exec.CommandContext(ctx, "kubectl", args...)
	cmd.WaitDelay = time.Second
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), out, errs
	err := cmd.Run()
	said := strings.TrimSpace(errs.String())
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("kubectl is not installed, or not in PATH: clusters are read with it")
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err == nil:
		return []byte(out.String()), nil
	}
	refused := &refusedByServer{text: cmp.Or(said, err.Error())}
	if found := serverReason.FindStringSubmatch(said); found != nil {
		refused.reason = found[1]
	}
	if len(stdin) > 0 { // it may repeat what was sent
		refused.text = "the API server refused it: " + cmp.Or(refused.reason, "kubectl says no reason that can be repeated")
	}
	return nil, refused
}

// serverReason is how kubectl begins to say what an API server answered.
var serverReason = regexp.MustCompile(`(?m)^(?:Error from|error: You must be logged in to the) server \(([A-Za-z]+)\)`)

func hasReason(err error, reasons ...string) bool {
	var refused *refusedByServer
	return errors.As(err, &refused) && slices.Contains(reasons, refused.reason)
}

// call sends one request. What it sends goes through standard input.
func (k kubectl) call(ctx context.Context, kubeContext, method, path string, body any) ([]byte, error) {
	verb := map[string]string{http.MethodGet: "get", http.MethodPost: "create", http.MethodPut: "replace", http.MethodDelete: "delete"}[method]
	args := []string{"--context", kubeContext, verb, "--raw", path}
	var stdin []byte
	if body != nil {
		var err error
		if stdin, err = json.Marshal(body); err != nil {
			return nil, err
		}
		args = append(args, "-f", "-")
	}
	answer, err := k.run(ctx, stdin, args...)
	switch {
	case hasReason(err, "NotFound"):
		return nil, argocd.ErrMissing
	case hasReason(err, "Conflict", "AlreadyExists"):
		return nil, argocd.ErrConflict
	case hasReason(err, "Forbidden"):
		return nil, fmt.Errorf("%w: %w", argocd.ErrForbidden, err)
	}
	return answer, err
}

type kubeContext struct{ name, server string }

func (k kubectl) contexts(ctx context.Context) ([]kubeContext, error) {
	data, err := k.run(ctx, nil, "config", "view", "-o", "json")
	if err != nil {
		return nil, err
	}
	var config struct {
		Contexts []struct {
			Name    string `json:"name"`
			Context struct {
				Cluster string `json:"cluster"`
			} `json:"context"`
		} `json:"contexts"`
		Clusters []struct {
			Name    string `json:"name"`
			Cluster struct {
				Server string `json:"server"`
			} `json:"cluster"`
		} `json:"clusters"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("kubectl config view: %w", err)
	}
	var contexts []kubeContext
	for _, c := range config.Contexts {
		for _, cluster := range config.Clusters {
			if cluster.Name == c.Context.Cluster {
				contexts = append(contexts, kubeContext{c.Name, strings.TrimRight(cluster.Cluster.Server, "/")})
			}
		}
	}
	return contexts, nil
}

// completeContexts offers the contexts of the kubeconfig.
func (k *kubectl) completeContexts(cmd *cobra.Command, _ []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	contexts, err := k.contexts(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []cobra.Completion
	for _, c := range contexts {
		if strings.HasPrefix(c.name, prefix) {
			names = append(names, c.name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
