package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/tokencache"
)

// gitUser is the user name beside a token in the place of a password. A server that
// takes tokens looks at the token alone.
const gitUser = "signalbox"

func newGitCredential(env *Environment) *cobra.Command {
	var x exchange
	var issuer, clientID, secretFile optional
	var server, caFile string
	cmd := &cobra.Command{
		Use:   "git-credential --issuer URL --resource URI get|store|erase",
		Short: "Give Git a token for a server (a credential helper)",
		Long: `Give Git a short-lived token for a server. Nobody runs this by hand: Git's
configuration names it, and Git adds what it wants at the end.

  [credential "https://git.example.com"]
    helper =
    helper = !signalbox git-credential --issuer https://sts.example.com --resource https://git.example.com

It exchanges the proof in the subject token's file as signalbox token exchange
does, or asks for whoever has signed in with signalbox login where there is none,
or with client credentials where --client-id is given. The token is
shared and renewed as that of signalbox kube-credential is. When a server refuses
a token, Git says so, and the next one is asked for again.

Only the server of --server (by default: the resource) gets the token, whatever
else Git asks about. Git 2.46 and later send it as Bearer, older ones as the
password of the user ` + gitUser + `.`,
		Example: `  git config --global credential.https://git.example.com.helper ''
  git config --global --add credential.https://git.example.com.helper \
    '!signalbox git-credential --issuer https://sts.example.com --resource https://git.example.com'
  printf 'protocol=https\nhost=git.example.com\n\n' | signalbox git-credential --resource https://git.example.com get`,
		Args:      oneArg("operation"),
		ValidArgs: gitOperations,
		RunE: func(cmd *cobra.Command, args []string) error {
			x.client = client{issuer.or(env, "SIGNALBOX_ISSUER_URL"), clientID.or(env, "SIGNALBOX_CLIENT_ID"), secretFile.or(env, "SIGNALBOX_CLIENT_SECRET_FILE"), x.client.insecure}
			if !slices.Contains(gitOperations, args[0]) {
				return nil // gitcredentials(7): what a helper does not know it ignores
			}
			if server == "" {
				server = x.resource
			}
			home, err := x.checkForGit(server)
			if err != nil {
				return err
			}
			asked, err := readGitRequest(env.In)
			if err != nil {
				return err
			}
			if args[0] == "store" || !asked.isFor(home) {
				return nil // the token is kept already, or Git asks another helper
			}
			dir, want, err := x.forGit(cmd, env, caFile)
			if err != nil {
				return err
			}
			if args[0] == "erase" { // the next command asks for the token again, if it is this one
				if dir == "" {
					return nil // nothing is kept
				}
				cache := tokencache.Cache{Dir: dir, Now: env.now}
				return cache.Forget(want, asked.secret())
			}
			got, err := sharedToken(cmd.Context(), env, dir, want)
			if err != nil {
				return err
			}
			return asked.answer(env.Out, got)
		},
	}
	cmd.Flags().Var(&issuer, "issuer", "the issuer's URL (SIGNALBOX_ISSUER_URL)")
	cmd.Flags().StringVar(&x.resource, "resource", "", "the Git server as the service knows it (RFC 8707)")
	cmd.Flags().StringVar(&x.scope, "scope", "", "scopes, parted by spaces (default: all that may be had)")
	cmd.Flags().StringVar(&server, "server", "", "URL of the only Git server that gets the token (default: the resource)")
	cmd.Flags().StringVar(&x.tokenFile, "subject-token-file", subjectTokenFile, "file with the proof of who asks")
	cmd.Flags().Var(&clientID, "client-id", "ask as this client, and not with a proof (SIGNALBOX_CLIENT_ID)")
	cmd.Flags().Var(&secretFile, "client-secret-file", "file with the client's secret (SIGNALBOX_CLIENT_SECRET_FILE)")
	cmd.Flags().StringVar(&caFile, "ca-file", "", "file with the certificate authorities of the issuer, in the place of the system's")
	for _, name := range []string{"subject-token-file", "client-secret-file", "ca-file"} {
		_ = cmd.MarkFlagFilename(name)
	}
	insecureFlag(cmd.Flags(), &x.client.insecure)
	return cmd
}

// gitOperations are those of gitcredentials(7).
var gitOperations = []string{"get", "store", "erase"}

// checkForGit returns the server that gets the token.
func (x *exchange) checkForGit(server string) (*url.URL, error) {
	switch {
	case x.client.issuer == "":
		return nil, &usageError{errors.New("--issuer is needed")}
	case x.resource == "":
		return nil, &usageError{errors.New("--resource is needed: the Git server's identifier at the service")}
	case x.tokenFile == "-" || x.client.secretFile == "-":
		return nil, &usageError{errors.New("standard input is that of git: give the name of a file")}
	case x.client.id != "" && x.client.secretFile == "":
		return nil, &usageError{errors.New("--client-secret-file is needed beside --client-id")}
	}
	home, err := url.Parse(server)
	if err != nil || home.Host == "" || home.Scheme != "https" && home.Scheme != "http" || home.User != nil || home.RawQuery != "" || home.Fragment != "" {
		return nil, &usageError{errors.New("--server is needed where the resource is not the URL of the Git server: https://git.example.com")}
	}
	if err := checkIssuer(x.client.issuer); err != nil {
		return nil, err
	}
	return home, errors.Join(inTheOpen(x.client.issuer, x.client.insecure), inTheOpen(server, x.client.insecure))
}

// forGit reads the proof or the client's secret, and says which token is wanted.
func (x *exchange) forGit(cmd *cobra.Command, env *Environment, caFile string) (dir string, want tokencache.Want, err error) {
	asking, err := env.trusting(caFile)
	if err != nil {
		return "", want, err
	}
	if x.client.id == "" {
		return x.shared(cmd, asking)
	}
	x.secret, err = readSecret(env, x.client.secretFile)
	return exchangedTokens(env), tokencache.Want{
		Issuer: x.client.issuer, Target: x.key(), Subject: "client:" + x.client.id,
		Ask: func(ctx context.Context) (tokencache.Token, error) { return x.ask(ctx, asking) },
	}, err
}

// gitRequest is what Git says: lines of key=value (git-credential(1)).
type gitRequest struct {
	fields       map[string]string
	capabilities []string
}

// maxGitRequest is more than Git says: a server's whole headers may be in it.
const maxGitRequest = 256 << 10

func readGitRequest(in io.Reader) (gitRequest, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxGitRequest+1))
	if err != nil {
		return gitRequest{}, err
	}
	if len(data) > maxGitRequest {
		return gitRequest{}, fmt.Errorf("git said more than %d KiB", maxGitRequest>>10)
	}
	r := gitRequest{fields: map[string]string{}}
	for line := range strings.SplitSeq(string(data), "\n") {
		if line == "" {
			break // the end of the request
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || key == "" {
			return gitRequest{}, errors.New("standard input is not what git says to a credential helper: key=value")
		}
		if _, twice := r.fields[key]; twice || strings.ContainsAny(value, "\r\x00") {
			return gitRequest{}, fmt.Errorf("git said %s in a way that could be read as another host", explain.Printable(key))
		}
		switch {
		case key == "capability[]":
			r.capabilities = append(r.capabilities, value)
		case !strings.HasSuffix(key, "[]"):
			r.fields[key] = value
		}
	}
	return r, nil
}

// isFor says whether the request is about this server: the same scheme and host,
// and no other user. The path is there with credential.useHttpPath alone.
func (r gitRequest) isFor(home *url.URL) bool {
	user, named := r.fields["username"]
	return r.fields["protocol"] == home.Scheme && strings.EqualFold(withPort(home.Scheme, r.fields["host"]), withPort(home.Scheme, home.Host)) &&
		(!named || user == gitUser) && r.isBelow(strings.Trim(home.Path, "/"))
}

func (r gitRequest) isBelow(path string) bool {
	asked, named := r.fields["path"]
	return path == "" || !named || asked == path || strings.HasPrefix(asked, path+"/")
}

// withPort writes the port that a scheme has where none is said.
func withPort(scheme, host string) string {
	if u := (&url.URL{Host: host}); u.Port() == "" {
		return host + map[string]string{"https": ":443", "http": ":80"}[scheme]
	}
	return host
}

// secret is the token that Git has used.
func (r gitRequest) secret() string {
	if credential := r.fields["credential"]; credential != "" {
		return credential
	}
	return r.fields["password"]
}

func (r gitRequest) answer(out io.Writer, token tokencache.Token) error {
	until := token.AskAgain().Unix()
	if slices.Contains(r.capabilities, "authtype") {
		_, err := fmt.Fprintf(out, "capability[]=authtype\nauthtype=Bearer\nephemeral=1\ncredential=%s\npassword_expiry_utc=%d\n", token.Value, until)
		return err
	}
	_, err := fmt.Fprintf(out, "username=%s\npassword=%s\npassword_expiry_utc=%d\n", gitUser, token.Value, until)
	return err
}
