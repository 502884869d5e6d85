package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// subjectTokenFile is where a pod has the token that proves who it is.
const subjectTokenFile = config.SubjectTokenFile

// maxSubjectToken is more than any proof: what is longer is another file.
const maxSubjectToken = 64 << 10

// projected is what a pod needs to have that file.
const projected = `  spec:
    serviceAccountName: orders
    containers:
      - name: main
        volumeMounts:
          - {name: signalbox, mountPath: /var/run/secrets/signalbox, readOnly: true}
    volumes:
      - name: signalbox
        projected:
          sources:
            - serviceAccountToken: {path: token, audience: https://sts.example.com}
`

func newTokenExchange(env *Environment) *cobra.Command {
	var who caller
	var x exchange
	var kind, output string
	cmd := &cobra.Command{
		Use:   "exchange (--cluster NAME | --resource URI)",
		Short: "Exchange a proof for a token that is good elsewhere (RFC 8693)",
		Long: `Exchange a proof of who you are for an access token that a cluster or an API
accepts, where a trust policy of the service allows it.

The proof of a workload is the token that its platform gives it. It needs no
client. A pod has its token in ` + subjectTokenFile + `
if a volume of it says so; the audience is the issuer's URL:

` + projected + `
Where that file is not there and no other is named, it asks for whoever has signed
in at this terminal with signalbox login.

With --subject-token-type access_token the proof is a token of this issuer, and
a client asks that acts for whom it is about: the context's, or --client-id.`,
		Example: `  signalbox token exchange --issuer https://sts.example.com --cluster spoke-a
  TOKEN=$(signalbox token exchange --resource https://api.example.com --scope orders:read)
  signalbox token exchange --resource https://billing.example.com --subject-token-type access_token --subject-token-file token.txt`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output, dataForms); err != nil {
				return err
			}
			if err := x.checkTarget(); err != nil {
				return err
			}
			var got exchanged
			var err error
			if kind == "jwt" && !who.clientID.given && x.isForPerson(cmd) {
				got, err = x.runForPerson(cmd.Context(), env, &who)
			} else {
				if err := x.readFlags(env, &who, kind); err != nil {
					return err
				}
				got, err = x.run(cmd.Context(), env)
				err = x.whatToDo(err)
			}
			if err != nil {
				return err
			}
			if output != "text" {
				return printData(env.Out, output, got)
			}
			fmt.Fprintln(env.Err, explain.Printable(got.words(x.target(), env.now())))
			_, err = fmt.Fprintln(env.Out, got.AccessToken)
			return err
		},
	}
	who.flags(cmd, env)
	x.flags(cmd)
	cmd.Flags().StringVar(&x.resource, "resource", "", "the API that the token is for (RFC 8707)")
	cmd.Flags().StringVar(&x.scope, "scope", "", "scopes, parted by spaces (default: all that the trust policy gives)")
	cmd.Flags().StringVar(&kind, "subject-token-type", "jwt", "what the proof is: jwt for another issuer's, access_token for one of this issuer's")
	_ = cmd.RegisterFlagCompletionFunc("subject-token-type", cobra.FixedCompletions([]string{"jwt", "access_token"}, cobra.ShellCompDirectiveNoFileComp))
	outputFlag(cmd, cmd.Flags(), &output, dataForms)
	return cmd
}

// exchange is a request for a token exchange (RFC 8693 §2.1), or without a proof one
// with client credentials (RFC 6749 §4.4).
type exchange struct {
	client                   client // who asks; without an id it is the workload itself
	secret                   string
	cluster, resource, scope string
	tokenFile                string // where the proof is
	subjectToken             string
	subjectType              oauth.TokenType
}

// flags are those that the commands share which exchange a proof.
func (x *exchange) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&x.cluster, "cluster", "", "the cluster that the token is for, by its name at the service")
	cmd.Flags().StringVar(&x.tokenFile, "subject-token-file", subjectTokenFile, "file with the proof of who asks")
	_ = cmd.RegisterFlagCompletionFunc("cluster", cobra.NoFileCompletions)
	_ = cmd.MarkFlagFilename("subject-token-file")
}

// isForPerson says whether whoever has signed in at this terminal asks: where no file
// is named, and a pod's is not there.
func (x *exchange) isForPerson(cmd *cobra.Command) bool {
	return !cmd.Flags().Changed("subject-token-file") && !isThere(x.tokenFile)
}

func (x *exchange) runForPerson(ctx context.Context, env *Environment, who *caller) (got exchanged, err error) {
	service, err := who.service(env)
	if err != nil {
		return got, err
	}
	p, err := personAt(env, service)
	if err != nil {
		return got, err
	}
	if _, err := p.id(); err != nil {
		return got, err
	}
	x.client = p.client
	err = p.exchange(ctx, *x, func(x exchange) error {
		got, err = x.run(ctx, env)
		return err
	})
	return got, err
}

// checkTarget finds what the token cannot be for.
func (x *exchange) checkTarget() error {
	if (x.cluster == "") == (x.resource == "") {
		return &usageError{errors.New("say what the token is for: --cluster NAME or --resource URI, one of the two")}
	}
	return x.checkCluster()
}

// key names what is asked for, for those who share it.
func (x *exchange) key() string {
	if x.cluster != "" {
		return "cluster:" + x.cluster
	}
	return "resource:" + x.resource + " scope:" + x.scope
}

func (x *exchange) readFlags(env *Environment, who *caller, kind string) (err error) {
	if x.client, err = who.service(env); err != nil {
		return err
	}
	switch kind {
	case "jwt":
		x.subjectType = oauth.TokenTypeJWT
		// A client that asks is another who: the workload's own policies are not asked
		// then. So a context's client is not enough.
		if !who.clientID.given {
			x.client.id, x.client.secretFile = "", ""
		}
	case "access_token":
		x.subjectType = oauth.TokenTypeAccessToken
		if x.tokenFile == subjectTokenFile {
			return &usageError{errors.New("--subject-token-file is needed: which file holds the access token? - reads it from standard input")}
		}
		if x.client.id == "" {
			return &usageError{errors.New("--client-id is needed: only a client may exchange an access token")}
		}
	default:
		return &usageError{fmt.Errorf("--subject-token-type must be jwt or access_token, not %q", kind)}
	}
	if x.client.id != "" && x.client.secretFile == "" {
		return &usageError{errors.New("--client-secret-file is needed: a client that exchanges tokens proves who it is")}
	}
	if x.client.secretFile == "-" && x.tokenFile == "-" {
		return &usageError{errors.New("the secret and the proof cannot both come from standard input")}
	}
	if x.client.secretFile != "" {
		if x.secret, err = readSecret(env, x.client.secretFile); err != nil {
			return err
		}
	}
	x.subjectToken, err = readSubjectToken(env, x.tokenFile)
	return err
}

// checkCluster finds what is no cluster's name before the service takes it for an API.
func (x *exchange) checkCluster() error {
	if strings.ContainsFunc(x.cluster, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-') }) || len(x.cluster) > 63 {
		return &usageError{errors.New("--cluster is the name of a cluster at the service, such as spoke-a: small letters, digits and dashes")}
	}
	return nil
}

// readSubjectToken reads the file with the proof. Its name is repeated only where
// it is one for sure: somebody may have given the proof itself.
func readSubjectToken(env *Environment, file string) (string, error) {
	if strings.Contains(file, "/") { // a token has none
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("there is no file %s to prove who asks: a pod has it from a projected volume, which signalbox token exchange --help shows", explain.Printable(file))
		}
	}
	in, name, end, err := openInput(env, file, "a token")
	if err != nil {
		return "", err
	}
	defer end()
	data, err := io.ReadAll(io.LimitReader(in, maxSubjectToken+1))
	switch token := strings.TrimSpace(string(data)); {
	case err != nil:
		return "", err
	case len(data) > maxSubjectToken:
		return "", fmt.Errorf("%s is longer than 64 KiB, so it is no token", name)
	case token == "":
		return "", fmt.Errorf("%s has no token", name)
	case strings.ContainsFunc(token, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return "", fmt.Errorf("%s holds more than a token: one line with nothing else is expected", name)
	default:
		return token, nil
	}
}

// target is what the token is for, in words.
func (x *exchange) target() string {
	if x.cluster != "" {
		return "the cluster " + x.cluster
	}
	return x.resource
}

// exchanged is the answer (RFC 8693 §2.2.1).
type exchanged struct {
	AccessToken     string `json:"access_token"`
	IssuedTokenType string `json:"issued_token_type"`
	TokenType       string `json:"token_type"`
	ExpiresIn       int64  `json:"expires_in"`
	Scope           string `json:"scope,omitempty"`
}

func (e exchanged) life() time.Duration { return time.Duration(e.ExpiresIn) * time.Second }

func (e exchanged) words(target string, now time.Time) string {
	text := fmt.Sprintf("a token for %s, good until %s (%s)", target, now.Add(e.life()).UTC().Format(time.RFC3339), e.life())
	if e.Scope != "" {
		text += ", scope " + e.Scope
	}
	return text
}

func (x *exchange) run(ctx context.Context, env *Environment) (exchanged, error) {
	endpoint, err := tokenEndpoint(ctx, env, x.client.issuer, x.client.insecure)
	if err != nil {
		return exchanged{}, err
	}
	return x.post(ctx, env, endpoint)
}

// post asks the token endpoint.
func (x *exchange) post(ctx context.Context, env *Environment, endpoint string) (exchanged, error) {
	form := url.Values{
		"grant_type": {string(oauth.TokenExchange)}, "subject_token": {x.subjectToken}, "subject_token_type": {string(x.subjectType)},
	}
	if x.subjectToken == "" { // the client asks for itself
		form = url.Values{"grant_type": {string(oauth.ClientCredentials)}}
	}
	for name, value := range map[string]string{"audience": x.cluster, "resource": x.resource, "scope": x.scope} {
		if value != "" {
			form.Set(name, value)
		}
	}
	return postForToken(ctx, env, endpoint, x.client.id, x.secret, form)
}

// postForToken asks a token endpoint, and takes no answer that is not a whole one.
func postForToken(ctx context.Context, env *Environment, endpoint, clientID, secret string, form url.Values) (exchanged, error) {
	body, err := post(ctx, env, endpoint, clientID, secret, form)
	if err != nil {
		return exchanged{}, err
	}
	var got exchanged
	_ = json.Unmarshal(body, &got) // what is no JSON has no token
	return got, got.check(endpoint)
}

// check finds what is not a whole answer.
func (e exchanged) check(endpoint string) error {
	unfit := func(r rune) bool { return r <= ' ' || r > '~' }
	switch {
	case e.AccessToken == "" || strings.ContainsFunc(e.AccessToken, unfit) || len(e.AccessToken) > maxSecretFile:
		return errAsk("%s answered no token: is --issuer right?", endpoint)
	case !strings.EqualFold(e.TokenType, "Bearer"):
		return errAsk("%s answered a token of a type other than Bearer, which cannot be used here", endpoint)
	case e.ExpiresIn <= 0 || e.ExpiresIn > 24*60*60:
		return errAsk("%s did not say how long the token lives", endpoint)
	}
	return nil
}

// whatToDo adds to a refusal what helps.
func (x *exchange) whatToDo(err error) error {
	var refused *errorAnswer
	if !errors.As(err, &refused) {
		return err
	}
	todo := x.advice(refused.code)
	if todo == "" {
		return err
	}
	return fmt.Errorf("%w; %s%s", err, todo, requestWords(refused.requestID))
}

func (x *exchange) advice(code oauth.Code) string {
	switch code {
	case oauth.TemporarilyUnavailable, oauth.ServerError:
		return "try again in a moment"
	case oauth.UnsupportedGrantType:
		return "this issuer exchanges no tokens: is --issuer right?"
	}
	if x.client.id == loginClient {
		return adviceForPerson(code)
	}
	switch code {
	case oauth.InvalidTarget:
		target := "--resource " + config.ShellQuote(x.resource)
		if x.cluster != "" {
			target = "--cluster " + x.cluster
		}
		return fmt.Sprintf("which policy was near is shown by signalbox policy explain --config FILE --subject-token-file %s %s, with the service's file", config.ShellQuote(x.tokenFile), target)
	case oauth.InvalidRequest:
		return fmt.Sprintf("signalbox token inspect %s shows what the proof says: is it for the audience %s, has it not expired, and does its pod still live?", config.ShellQuote(x.tokenFile), x.client.issuer)
	case oauth.InvalidScope:
		return "ask for fewer in --scope, or for none to get all that the trust policy gives"
	case oauth.InvalidClient:
		return "are --client-id and --client-secret-file right? A workload needs no client, a token of this issuer does"
	case oauth.UnauthorizedClient:
		return "the client needs " + string(oauth.TokenExchange) + " in its grant_types"
	}
	return ""
}

// requestWords say how to find the refusal at the service.
func requestWords(id string) string {
	if id == "" {
		return ""
	}
	return " (at the service: signalbox why " + config.ShellQuote(explain.Printable(id)) + ")"
}
