package cli

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/contexts"
	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/logins"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/tokencache"
	"github.com/signalbox-sts/signalbox/internal/userdir"
)

// loginClient is the client that people at a terminal are: a public one, whose
// redirect URI is http://127.0.0.1/callback with any port.
const loginClient = "signalbox-cli"

// loginScope makes an access token that is good at the issuer alone.
const loginScope = "openid profile"

// signInLimit is how long a person may take in the browser.
const signInLimit = 5 * time.Minute

// person is somebody at this terminal, and the service where they sign in.
type person struct {
	env    *Environment // which trusts the right certificate authorities
	client client
	store  *logins.Store
}

// personFlags find a person.
type personFlags struct {
	who    caller
	caFile string
}

func (p *personFlags) flags(cmd *cobra.Command, env *Environment) {
	contextFlag(env, cmd, cmd.Flags(), &p.who.context)
	cmd.Flags().Var(&p.who.issuer, "issuer", "the issuer's URL (SIGNALBOX_ISSUER_URL; default: the context's)")
	cmd.Flags().StringVar(&p.caFile, "ca-file", "", "file with the certificate authorities of the issuer, in the place of the system's")
	_ = cmd.MarkFlagFilename("ca-file")
	insecureFlag(cmd.Flags(), &p.who.insecure)
}

func (p *personFlags) find(env *Environment) (*person, error) {
	service, err := p.who.service(env)
	if err != nil {
		return nil, err
	}
	asking, err := env.trusting(p.caFile)
	if err != nil {
		return nil, err
	}
	return personAt(asking, service)
}

// personAt is whoever has signed in at this service, or will.
func personAt(env *Environment, service client) (*person, error) {
	if env.ConfigDir == nil {
		return nil, errors.New("there is no folder to keep a sign-in in")
	}
	dir, err := env.ConfigDir()
	if err != nil {
		return nil, fmt.Errorf("there is no folder to keep a sign-in in: %w", err)
	}
	return &person{env, client{issuer: service.issuer, insecure: service.insecure}, &logins.Store{Dir: filepath.Join(dir, "signalbox", "logins")}}, nil
}

// again is the command that signs in.
func (p *person) again() string {
	return "signalbox login --issuer " + config.ShellQuote(p.client.issuer)
}

func newLogin(env *Environment) *cobra.Command {
	var flags personFlags
	var noBrowser, noKeyring bool
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Sign in at this terminal, in the browser",
		Long: `Sign in at this terminal. The sign-in page of the service opens in the browser,
and its answer comes back to a port of this machine. Whoever is signed in already
is not asked again.

The sign-in is good for signalbox whoami, kube-credential, git-credential and
token exchange. It ends with signalbox logout, and with the browser's session:
when you sign out there, or after 12 hours. The service must know the client ` + loginClient + `:

  clients:
    - client_id: ` + loginClient + `
      client_name: Signalbox at the terminal
      redirect_uris: ["http://127.0.0.1` + loopbackPath + `"]
      grant_types: [authorization_code, refresh_token, "` + string(oauth.TokenExchange) + `"]
      token_endpoint_auth_method: none
      scope: ` + loginScope + `

It is kept in the folder signalbox/logins of your configuration folder
(~/.config/signalbox/logins on Linux), sealed with a key that is in the system's
keyring. Without a keyring, or with --no-keyring, the key is in a file beside it,
and whoever can read your files can use the sign-in.`,
		Example: `  signalbox login --issuer https://sts.example.com
  signalbox login --no-browser          # prints the address of the page`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := flags.find(env)
			if err != nil {
				return err
			}
			p.store.Keyring = !noKeyring
			if noBrowser {
				p.env.OpenURL = nil
			}
			return p.login(cmd.Context())
		},
	}
	flags.flags(cmd, env)
	cmd.Flags().BoolVar(&noBrowser, "no-browser", false, "print the address of the page and open nothing")
	cmd.Flags().BoolVar(&noKeyring, "no-keyring", false, "keep the key in a file beside the sign-in")
	return cmd
}

// login signs in unless somebody is. Of several at once one opens a browser.
func (p *person) login(ctx context.Context) error {
	done, err := p.store.SignIn(ctx, p.client.issuer, 0)
	if errors.Is(err, userdir.ErrBusy) {
		fmt.Fprintln(p.env.Err, "another signalbox login waits for you in the browser: this one takes its result")
		done, err = p.store.SignIn(ctx, p.client.issuer, signInLimit+time.Minute)
	}
	if err != nil {
		return err
	}
	defer done()
	if _, err := p.store.Get(ctx, p.client.issuer); err == nil {
		switch is, err := p.identity(ctx); {
		case err == nil:
			fmt.Fprintln(p.env.Err, "you are signed in already: "+is.words())
			return nil
		case !errors.Is(err, logins.ErrEnded):
			return err
		}
	} else if !errors.Is(err, logins.ErrNone) {
		fmt.Fprintf(p.env.Err, "the sign-in of before is replaced: %s\n", explain.Printable(err.Error()))
		id, _ := p.store.ID(p.client.issuer)
		_ = p.forget(id) // it would be asked for by nobody
	}
	made, err := p.signIn(ctx)
	if err != nil {
		return err
	}
	inKeyring, err := p.store.Put(ctx, made)
	if err != nil {
		return errors.Join(fmt.Errorf("the sign-in cannot be kept: %w", err), p.revoke(ctx, made))
	}
	where := "its key is in the system's keyring"
	if !inKeyring {
		where = "its key is in a file beside it, for whoever can read your files"
	}
	fmt.Fprintf(p.env.Err, "you are signed in: %s\nit is kept in %s; %s\n", identityOf(made).words(), p.store.Dir, where)
	return p.name()
}

// name makes a context for whoever has none, so that the next command needs no --issuer.
func (p *person) name() error {
	file, err := loadContexts(p.env)
	if err != nil || len(file.Contexts) > 0 {
		return nil // it is a convenience
	}
	u, _ := url.Parse(p.client.issuer) // checked
	c := contexts.Context{Name: contextName(u.Hostname()), Issuer: p.client.issuer, AdminURL: defaultAdminURL, InsecureHTTP: p.client.insecure}
	return changeContexts(p.env, func(file *contexts.File) (string, error) {
		file.Put(c)
		return "context " + c.Name + " is made and in use: other commands need no --issuer", nil
	})
}

// signIn is the authorization code flow of a native app (RFC 8252).
func (p *person) signIn(ctx context.Context) (_ logins.Login, err error) {
	none := logins.Login{}
	metadata, err := discover(ctx, p.env, p.client.issuer)
	if err != nil {
		return none, err
	}
	for _, endpoint := range []string{metadata.AuthorizationEndpoint, metadata.TokenEndpoint} {
		if err := takesSecrets(p.client.issuer, endpoint, p.client.insecure); err != nil {
			return none, err
		}
	}
	state, nonce, verifier := randomText(), randomText(), randomText()
	back, err := listenOnLoopback(state, p.client.issuer, metadata.SaysItsName)
	if err != nil {
		return none, err
	}
	defer back.close()
	request := url.Values{
		"response_type": {"code"}, "client_id": {loginClient}, "redirect_uri": {back.redirectURI()}, "scope": {loginScope},
		"state": {state}, "nonce": {nonce}, "code_challenge": {challengeOf(verifier)}, "code_challenge_method": {"S256"},
	}
	if err := p.tryRequest(ctx, metadata.AuthorizationEndpoint, request); err != nil {
		return none, err
	}
	p.show(metadata.AuthorizationEndpoint + "?" + request.Encode())
	waiting, cancel := context.WithTimeout(ctx, signInLimit)
	defer cancel()
	code, err := back.wait(waiting)
	switch {
	case ctx.Err() != nil:
		return none, errors.New("interrupted: nobody has signed in")
	case errors.Is(err, context.DeadlineExceeded):
		return none, fmt.Errorf("nobody has signed in within %d minutes", int(signInLimit.Minutes()))
	}
	defer func() { back.told(err == nil) }()
	if err != nil {
		return none, err
	}
	return p.redeem(ctx, metadata, nonce, url.Values{
		"grant_type": {string(oauth.AuthorizationCode)}, "code": {code}, "redirect_uri": {back.redirectURI()}, "code_verifier": {verifier},
	})
}

// tryRequest asks whether the service takes the request at all: a browser would
// show the refusal, and the terminal would wait for nothing.
func (p *person) tryRequest(ctx context.Context, endpoint string, request url.Values) error {
	trial := url.Values{"prompt": {"none"}}
	for name, values := range request {
		trial[name] = values
	}
	try, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"?"+trial.Encode(), nil)
	if err != nil {
		return errAsk("%s is not a URL", endpoint)
	}
	response, err := p.env.issuerHTTP().Do(try)
	if err != nil {
		return errAsk("%w", noAnswer(err, endpoint, "--issuer", issuerTimeout))
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusBadRequest {
		return fmt.Errorf("%s lets nobody sign in at a terminal: it must know the client %s, which signalbox login --help shows", p.client.issuer, loginClient)
	}
	answer, err := url.Parse(response.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(answer.String(), request.Get("redirect_uri")+"?") {
		return nil // the person will see it
	}
	switch code := answer.Query().Get("error"); oauth.Code(code) {
	case "", oauth.LoginRequired, oauth.ConsentRequired:
		return nil
	default:
		return refusedBy(endpoint, response.Status, code, answer.Query().Get("error_description"))
	}
}

// show leads the person to the page.
func (p *person) show(address string) {
	if p.env.OpenURL != nil && p.env.OpenURL(address) == nil {
		fmt.Fprintf(p.env.Err, "your browser opens the sign-in page; if it does not, open this address yourself:\n\n  %s\n\n", explain.Printable(address))
		return
	}
	fmt.Fprintf(p.env.Err, "open this address in a browser on this machine:\n\n  %s\n\n", explain.Printable(address))
}

// personTokens is the answer to a person's grant.
type personTokens struct {
	exchanged
	RefreshToken string `json:"refresh_token"`
	RefreshEnds  int64  `json:"refresh_token_expires_in"`
	IDToken      string `json:"id_token"`
}

// ask asks the token endpoint in the person's name.
func (p *person) ask(ctx context.Context, endpoint string, form url.Values) (personTokens, error) {
	body, err := post(ctx, p.env, endpoint, loginClient, "", form)
	if err != nil {
		return personTokens{}, err
	}
	var got personTokens
	_ = json.Unmarshal(body, &got) // what is no JSON has no token
	if err := got.check(endpoint); err != nil {
		return personTokens{}, err
	}
	if got.RefreshToken == "" || len(got.RefreshToken) > maxSecretFile {
		return personTokens{}, errAsk("%s answered no refresh token: the client %s needs refresh_token in its grant_types", endpoint, loginClient)
	}
	return got, nil
}

// keep puts what was got into a sign-in.
func (got personTokens) keep(l logins.Login, began time.Time) logins.Login {
	l.AccessToken, l.RefreshToken, l.Scope = got.AccessToken, got.RefreshToken, got.Scope
	l.ObtainedAt, l.ExpiresAt, l.EndsAt = began.UTC(), began.Add(got.life()).UTC(), time.Time{}
	if got.RefreshEnds > 0 {
		l.EndsAt = began.Add(time.Duration(got.RefreshEnds) * time.Second).UTC()
	}
	return l
}

// redeem turns a code into a sign-in. Whose it is, the ID token says.
func (p *person) redeem(ctx context.Context, metadata issuerMetadata, nonce string, form url.Values) (logins.Login, error) {
	began := p.env.now()
	got, err := p.ask(ctx, metadata.TokenEndpoint, form)
	if err != nil {
		return logins.Login{}, err
	}
	l := logins.New(got.keep(logins.Login{Issuer: p.client.issuer, SignedInAt: began.UTC().Truncate(time.Second)}, began))
	if l.Subject, err = p.subjectOf(ctx, got.IDToken, nonce); err == nil {
		var says userInfo
		says, err = p.userInfo(ctx, metadata, l)
		l.Username = says.Username
	}
	if err != nil { // nobody will use what was got
		return logins.Login{}, errors.Join(err, p.revoke(ctx, l))
	}
	return l, nil
}

// subjectOf checks an ID token.
func (p *person) subjectOf(ctx context.Context, idToken, nonce string) (string, error) {
	keys, err := publishedKeys(ctx, p.env, p.client.issuer)
	if err != nil {
		return "", err
	}
	body, err := expected{clientID: loginClient, leeway: jose.MaxLeeway}.verify(keys, p.client.issuer, idToken, p.env.now())
	if err != nil {
		return "", fmt.Errorf("the ID token is not good: %w", tokenWords(err))
	}
	var says struct {
		Subject string `json:"sub"`
		Nonce   string `json:"nonce"`
	}
	if err := json.Unmarshal(body, &says); err != nil || subtle.ConstantTimeCompare([]byte(says.Nonce), []byte(nonce)) != 1 {
		return "", errors.New("the ID token is of another sign-in: its nonce is not ours")
	}
	return says.Subject, nil
}

// userInfo is what the service says of a person (OpenID Connect Core §5.3).
type userInfo struct {
	Subject  string `json:"sub"`
	Username string `json:"preferred_username"`
	Name     string `json:"name"`
}

func (p *person) userInfo(ctx context.Context, metadata issuerMetadata, l logins.Login) (userInfo, error) {
	var says userInfo
	if err := takesSecrets(p.client.issuer, metadata.UserInfoEndpoint, p.client.insecure); err != nil {
		return says, err
	}
	body, err := askAs(ctx, p.env, metadata.UserInfoEndpoint, l.AccessToken)
	if err != nil {
		return says, err
	}
	if err := json.Unmarshal(body, &says); err != nil || says.Subject != l.Subject {
		return userInfo{}, errAsk("%s tells of somebody else", metadata.UserInfoEndpoint)
	}
	return says, nil
}

// renewLimit is how long one attempt to renew may take. Two are within the grace
// period of the service, and within what a person waits for kubectl.
const renewLimit = 7 * time.Second

// renew gets the next tokens of a sign-in. From the moment when it sends the refresh
// token nothing interrupts it, and an answer that was lost is asked for again at
// once: the service gives the same one for a few seconds, and later takes whoever
// comes with the old refresh token for a thief.
func (p *person) renew(ctx context.Context, l logins.Login) (logins.Login, error) {
	endpoint, err := tokenEndpoint(ctx, p.env, p.client.issuer, p.client.insecure)
	if err != nil {
		return l, err
	}
	began := p.env.now()
	attempt := func() (personTokens, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), renewLimit)
		defer cancel()
		return p.ask(ctx, endpoint, url.Values{"grant_type": {string(oauth.RefreshToken)}, "refresh_token": {l.RefreshToken}})
	}
	got, err := attempt()
	var refused *errorAnswer
	if err != nil && !errors.Is(err, tokencache.ErrRefused) { // a proxy in between may have lost the answer
		got, err = attempt()
	}
	switch {
	case errors.As(err, &refused) && refused.code == oauth.InvalidGrant:
		return l, fmt.Errorf("%w at %s (%w): to sign in again, run %s", logins.ErrEnded, p.client.issuer, err, p.again())
	case err != nil:
		return l, err
	}
	return got.keep(l, began), nil
}

// signedIn is the sign-in with an access token that is good as said.
func (p *person) signedIn(ctx context.Context, good func(logins.Login) bool) (logins.Login, error) {
	l, err := p.store.Use(ctx, p.client.issuer, good, p.renew)
	switch {
	case errors.Is(err, logins.ErrEnded):
		_ = p.forget(l.ID) // what is left is dead
	case errors.Is(err, logins.ErrNone):
		err = p.nobody(err)
	}
	return l, err
}

// nobody says what to do where nobody is signed in.
func (p *person) nobody(err error) error {
	return fmt.Errorf("%w at %s: to sign in, run %s", err, p.client.issuer, p.again())
}

// identity is who is signed in, as the service says now.
type identity struct {
	Issuer     string     `json:"issuer"`
	Subject    string     `json:"sub"`
	Username   string     `json:"username,omitempty"`
	Name       string     `json:"name,omitempty"`
	Scopes     []string   `json:"scopes"`
	SignedInAt time.Time  `json:"signed_in_at"`
	EndsAt     *time.Time `json:"ends_at,omitempty"` // if nobody uses it
}

func identityOf(l logins.Login) identity {
	i := identity{Issuer: l.Issuer, Subject: l.Subject, Username: l.Username, Scopes: strings.Fields(l.Scope), SignedInAt: l.SignedInAt}
	if !l.EndsAt.IsZero() {
		ends := l.EndsAt.Truncate(time.Second)
		i.EndsAt = &ends
	}
	return i
}

func (i identity) words() string {
	text := i.Username
	if text == "" {
		text = i.Subject
	}
	text += " at " + i.Issuer
	if i.EndsAt != nil {
		text += " until " + when(i.EndsAt)
	}
	return explain.Printable(text)
}

// identity asks the service. It fails with ErrEnded, and forgets the sign-in, if the
// service has ended it.
func (p *person) identity(ctx context.Context) (identity, error) {
	metadata, err := discover(ctx, p.env, p.client.issuer)
	if err != nil {
		return identity{}, err
	}
	l, err := p.signedIn(ctx, func(l logins.Login) bool { return p.env.now().Before(l.ExpiresAt) })
	if err != nil {
		return identity{}, err
	}
	says, err := p.userInfo(ctx, metadata, l)
	if errors.Is(err, errNotTaken) { // it has ended, or this machine's clock is slow: the refresh token tells
		refused := l.AccessToken
		if l, err = p.signedIn(ctx, func(l logins.Login) bool { return l.AccessToken != refused }); err != nil {
			return identity{}, err
		}
		says, err = p.userInfo(ctx, metadata, l)
	}
	if err != nil {
		return identity{}, err
	}
	is := identityOf(l)
	is.Username, is.Name = says.Username, says.Name
	return is, nil
}

// wanted is a token of the person's for another place, which all programs at this
// terminal share, and the folder that it is kept in.
func (p *person) wanted(x exchange) (dir string, want tokencache.Want, err error) {
	id, err := p.id()
	if err != nil {
		return "", want, err
	}
	return p.kept(id), tokencache.Want{
		Issuer: p.client.issuer, Target: x.key(), Subject: "login:" + id,
		Ask: func(ctx context.Context) (token tokencache.Token, err error) {
			err = p.exchange(ctx, x, func(x exchange) error {
				token, err = x.ask(ctx, p.env)
				return err
			})
			return token, err
		},
	}, nil
}

// id is that of the sign-in, for who needs a token and has no other proof.
func (p *person) id() (string, error) {
	id, err := p.store.ID(p.client.issuer)
	if errors.Is(err, logins.ErrNone) {
		err = fmt.Errorf("%w; a pod proves itself with the file %s, which is not there", p.nobody(err), subjectTokenFile)
	}
	return id, err
}

// exchange gives ask an access token of the sign-in to exchange. What comes of it
// lives no longer, so it is a young one.
func (p *person) exchange(ctx context.Context, x exchange, ask func(exchange) error) error {
	l, err := p.signedIn(ctx, func(l logins.Login) bool {
		return p.env.now().Before(l.ObtainedAt.Add(l.ExpiresAt.Sub(l.ObtainedAt) / 3))
	})
	if err != nil {
		return err
	}
	x.client.id, x.subjectType, x.subjectToken = loginClient, oauth.TokenTypeAccessToken, l.AccessToken
	err = ask(x)
	var refused *errorAnswer
	if errors.As(err, &refused) && refused.code == oauth.InvalidRequest { // it has ended: the refresh token tells
		if l, err = p.signedIn(ctx, func(l logins.Login) bool { return l.AccessToken != x.subjectToken }); err != nil {
			return err
		}
		x.subjectToken = l.AccessToken
		err = ask(x)
	}
	return x.whatToDo(err)
}

func adviceForPerson(code oauth.Code) string {
	switch code {
	case oauth.InvalidTarget:
		return "a trust policy must lead there from a group of yours (user_group): signalbox whoami says who you are"
	case oauth.UnauthorizedClient:
		return "the client " + loginClient + " needs " + string(oauth.TokenExchange) + " in its grant_types"
	}
	return ""
}

func newWhoami(env *Environment) *cobra.Command {
	var flags personFlags
	var output string
	cmd := &cobra.Command{
		Use:   "whoami",
		Short: "Say who is signed in at this terminal, where, until when, with which scopes",
		Long: `Ask the service who is signed in at this terminal. The exit code is 1 if nobody
is, or the service cannot be asked. ends_at is the end if nobody uses the sign-in;
using it moves that on, to the end of the browser's session at most.`,
		Example: `  signalbox whoami
  signalbox whoami -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output, dataForms); err != nil {
				return err
			}
			p, err := flags.find(env)
			if err != nil {
				return err
			}
			is, err := p.identity(cmd.Context())
			if err != nil {
				return err
			}
			if output != "text" {
				return printData(env.Out, output, is)
			}
			return printFields(env.Out, is, env.now())
		},
	}
	flags.flags(cmd, env)
	outputFlag(cmd, cmd.Flags(), &output, dataForms)
	return cmd
}

func newLogout(env *Environment) *cobra.Command {
	var flags personFlags
	var local bool
	cmd := &cobra.Command{
		Use:   "logout",
		Short: "Sign out at this terminal: end the sign-in at the service, and all tokens that came from it",
		Long: `End the sign-in of this terminal at the service, with all tokens that came from
it, and remove it from this machine. A cluster with a token webhook refuses them
within 15 seconds. The browser stays signed in.

If the service cannot be asked, the sign-in is alive there, and stays here too so
that you can try again. With --local it is removed from this machine without
asking.`,
		Example: `  signalbox logout
  signalbox logout --local`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := flags.find(env)
			if err != nil {
				return err
			}
			return p.logout(cmd.Context(), local)
		},
	}
	flags.flags(cmd, env)
	cmd.Flags().BoolVar(&local, "local", false, "only remove the sign-in from this machine; the service is not asked")
	return cmd
}

func (p *person) logout(ctx context.Context, local bool) error {
	l, err := p.store.Get(ctx, p.client.issuer)
	if l.ID == "" { // its key is gone: what came of it can be removed all the same
		l.ID, _ = p.store.ID(p.client.issuer)
	}
	switch {
	case errors.Is(err, logins.ErrNone):
		fmt.Fprintf(p.env.Err, "nobody is signed in at %s\n", p.client.issuer)
		return nil
	case err != nil && !local:
		return fmt.Errorf("%w; signalbox logout --local removes it from this machine", err)
	}
	if !local {
		if err := p.revoke(ctx, l); err != nil {
			return fmt.Errorf("%w; the sign-in is alive there%s, and is still kept here: try again, or remove it from this machine with signalbox logout --local", err, untilWords(l))
		}
	}
	if err := errors.Join(p.store.Remove(ctx, p.client.issuer), p.forget(l.ID)); err != nil {
		return err
	}
	if local {
		fmt.Fprintf(p.env.Err, "the sign-in is removed from this machine; at %s it is alive%s, unless somebody ends it there\n", p.client.issuer, untilWords(l))
		return nil
	}
	fmt.Fprintf(p.env.Err, "%s is signed out here, and all tokens of this sign-in are dead; the browser stays signed in\n", identityOf(logins.Login{Issuer: l.Issuer, Subject: l.Subject, Username: l.Username}).words())
	return nil
}

func untilWords(l logins.Login) string {
	if l.EndsAt.IsZero() {
		return ""
	}
	return " until " + when(&l.EndsAt)
}

// revoke ends the grant at the service, and everything that came from it. Any of its
// refresh tokens will do, also one that has been used.
func (p *person) revoke(ctx context.Context, l logins.Login) error {
	metadata, err := discover(ctx, p.env, p.client.issuer)
	if err != nil {
		return err
	}
	if err := takesSecrets(p.client.issuer, metadata.RevocationEndpoint, p.client.insecure); err != nil {
		return err
	}
	return revokeToken(ctx, p.env, metadata.RevocationEndpoint, loginClient, "", l.RefreshToken)
}

// kept is the folder of the tokens that came from a sign-in.
func (p *person) kept(id string) string {
	if p.env.CacheDir == nil || id == "" {
		return ""
	}
	dir, err := p.env.CacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "signalbox", "logins", id)
}

// forget removes the tokens that came from a sign-in.
func (p *person) forget(id string) error {
	if dir := p.kept(id); dir != "" {
		return os.RemoveAll(dir)
	}
	return nil
}
