package cli

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/tokencache"
)

func newKubeCredential(env *Environment) *cobra.Command {
	var x exchange
	var issuer optional
	var caFile string
	cmd := &cobra.Command{
		Use:   "kube-credential --issuer URL --cluster NAME",
		Short: "Give kubectl a token for a cluster (an exec plugin)",
		Long: `Give kubectl, or any other program with a kubeconfig, a short-lived token for a
cluster. Nobody runs this by hand: a user of the kubeconfig names it.

  users:
    - name: signalbox
      user:
        exec:
          apiVersion: client.authentication.k8s.io/v1
          interactiveMode: Never
          command: signalbox
          args: [kube-credential, --issuer, https://sts.example.com, --cluster, spoke-a]

It exchanges the proof in the subject token's file as signalbox token exchange
does, whose help shows how a pod gets that file. Where there is none and no other
is named, it asks for whoever has signed in with signalbox login.

All programs of one user share the token: it is kept in the folder
signalbox/exchanged or signalbox/logins of the cache folder (XDG_CACHE_HOME, by
default ~/.cache), in a file of mode 0600, and renewed when two thirds of its life
are over. While the service is away it is used until it expires.`,
		Example: `  signalbox kube-credential --issuer https://sts.example.com --cluster spoke-a
  kubectl config set-credentials signalbox --exec-api-version=client.authentication.k8s.io/v1 --exec-interactive-mode=Never \
    --exec-command=signalbox --exec-arg=kube-credential --exec-arg=--issuer=https://sts.example.com --exec-arg=--cluster=spoke-a`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version, err := execVersion(env.Getenv("KUBERNETES_EXEC_INFO"))
			if err != nil {
				return err
			}
			x.client.issuer = issuer.or(env, "SIGNALBOX_ISSUER_URL")
			if err := x.checkForKubectl(); err != nil {
				return err
			}
			asking, err := env.trusting(caFile)
			if err != nil {
				return err
			}
			dir, want, err := x.shared(cmd, asking)
			if err != nil {
				return err
			}
			got, err := sharedToken(cmd.Context(), env, dir, want)
			if err != nil {
				return err
			}
			return printExecCredential(env, version, got)
		},
	}
	cmd.Flags().Var(&issuer, "issuer", "the issuer's URL (SIGNALBOX_ISSUER_URL)")
	x.flags(cmd)
	cmd.Flags().StringVar(&caFile, "ca-file", "", "file with the certificate authorities of the issuer, in the place of the system's")
	_ = cmd.MarkFlagFilename("ca-file")
	insecureFlag(cmd.Flags(), &x.client.insecure)
	return cmd
}

// checkForKubectl: what a kubeconfig leaves open has the same meaning in any
// folder and for any user, so no context says anything here.
func (x *exchange) checkForKubectl() error {
	switch {
	case x.client.issuer == "":
		return &usageError{errors.New("--issuer is needed")}
	case x.cluster == "":
		return &usageError{errors.New("--cluster is needed: the cluster's name at the service")}
	case x.tokenFile == "-":
		return &usageError{errors.New("--subject-token-file needs the name of a file: standard input is that of kubectl")}
	}
	if err := x.checkCluster(); err != nil {
		return err
	}
	if err := checkIssuer(x.client.issuer); err != nil {
		return err
	}
	return inTheOpen(x.client.issuer, x.client.insecure)
}

// ask is run, for the cache.
func (x *exchange) ask(ctx context.Context, env *Environment) (tokencache.Token, error) {
	began := env.now()
	got, err := x.run(ctx, env)
	if err != nil {
		return tokencache.Token{}, err
	}
	return tokencache.Token{Value: got.AccessToken, Obtained: began, Expires: began.Add(got.life())}, nil
}

// isThere says whether a file is there. One that cannot be looked at is.
func isThere(file string) bool {
	_, err := os.Stat(file)
	return !errors.Is(err, fs.ErrNotExist)
}

// shared says which token is wanted, and in which folder it is kept: of a person, or
// of whoever has a proof.
func (x *exchange) shared(cmd *cobra.Command, asking *Environment) (dir string, want tokencache.Want, err error) {
	if x.isForPerson(cmd) {
		p, err := personAt(asking, x.client)
		if err != nil {
			return "", want, err
		}
		return p.wanted(*x)
	}
	x.subjectType = oauth.TokenTypeJWT
	if x.subjectToken, err = readSubjectToken(asking, x.tokenFile); err != nil {
		return "", want, err
	}
	return exchangedTokens(asking), tokencache.Want{
		Issuer: x.client.issuer, Target: x.key(), Subject: "proof:" + subjectOf(x.subjectToken),
		Ask: func(ctx context.Context) (tokencache.Token, error) {
			got, err := x.ask(ctx, asking)
			return got, x.whatToDo(err)
		},
	}, nil
}

// sharedToken is a token that all programs of one user share. Without a folder nothing
// is kept.
func sharedToken(ctx context.Context, env *Environment, dir string, want tokencache.Want) (tokencache.Token, error) {
	cache := tokencache.Cache{Dir: dir, Now: env.now, Warn: func(err error) { warn(env, err) }}
	if cache.Dir == "" {
		return want.Ask(ctx)
	}
	return cache.Get(ctx, want)
}

// exchangedTokens is the folder of tokens that came from a proof. It is empty where
// nothing can be kept.
func exchangedTokens(env *Environment) string {
	if env.CacheDir == nil {
		return ""
	}
	dir, err := env.CacheDir()
	if err != nil { // a user without a home
		warn(env, fmt.Errorf("the token is not kept for the next command: %w", err))
		return ""
	}
	return filepath.Join(dir, "signalbox", "exchanged")
}

func warn(env *Environment, err error) {
	fmt.Fprintf(env.Err, "signalbox: warning: %s\n", explain.Printable(err.Error()))
}

// renewed are the claims that change when the same proof is made again.
var renewed = []string{"exp", "iat", "nbf", "jti", "auth_time"}

// subjectOf says whose a proof is, so that a proof that was renewed leads to the
// same kept token, and one of anybody else never does: also not that of another
// pod, or of the next run of a job. What is no JWT is only equal to itself.
func subjectOf(proof string) string {
	known := []byte(proof)
	if parts := strings.Split(proof, "."); len(parts) == 3 {
		var claims map[string]json.RawMessage
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err == nil && json.Unmarshal(payload, &claims) == nil && claims["iss"] != nil && claims["sub"] != nil {
			for _, name := range renewed {
				delete(claims, name)
			}
			if left, err := json.Marshal(claims); err == nil { // in the order of their names
				known = left
			}
		}
	}
	sum := sha256.Sum256(known)
	return hex.EncodeToString(sum[:])
}

// maxExecInfo is what Linux takes for one variable.
const maxExecInfo = 128 << 10

const execGroup = "client.authentication.k8s.io/"

// execVersions are those whose answers are alike, the usual one first.
var execVersions = []string{execGroup + "v1", execGroup + "v1beta1"}

// execVersion reads what kubectl says to a plugin: the version in which it wants
// the answer. Without it somebody runs the plugin by hand.
func execVersion(info string) (string, error) {
	if info == "" {
		return execVersions[0], nil
	}
	var said struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if len(info) > maxExecInfo || json.Unmarshal([]byte(info), &said) != nil || said.Kind != "ExecCredential" {
		return "", errors.New("KUBERNETES_EXEC_INFO is not an ExecCredential: only a program with a kubeconfig sets it")
	}
	if !slices.Contains(execVersions, said.APIVersion) {
		return "", fmt.Errorf("the kubeconfig asks for %s: write apiVersion: %s below exec", explain.Printable(said.APIVersion), execVersions[0])
	}
	return said.APIVersion, nil
}

// printExecCredential answers kubectl. It asks again before the token expires.
func printExecCredential(env *Environment, version string, token tokencache.Token) error {
	until := token.AskAgain()
	if !env.now().Before(until) { // the service is away: the token is used to its end
		until = token.Expires
	}
	type status struct {
		ExpirationTimestamp string `json:"expirationTimestamp"`
		Token               string `json:"token"`
	}
	return json.NewEncoder(env.Out).Encode(struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Spec       struct{} `json:"spec"`
		Status     status   `json:"status"`
	}{version, "ExecCredential", struct{}{}, status{until.UTC().Truncate(time.Second).Format(time.RFC3339), token.Value}})
}
