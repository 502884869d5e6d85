package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/explain"
)

const (
	defaultAdminURL = "http://127.0.0.1:9090"
	adminTimeout    = 30 * time.Second
)

// adminCommands are the commands over the admin API.
func adminCommands(env *Environment) []*cobra.Command {
	var commands []*cobra.Command
	add := func(make func(*adminCLI) *cobra.Command, forms []string) {
		a := &adminCLI{env: env, forms: forms}
		cmd := make(a)
		a.flags(cmd)
		commands = append(commands, cmd)
	}
	add((*adminCLI).clientCommand, nameForms)
	add((*adminCLI).userCommand, nameForms)
	add((*adminCLI).keyCommand, nameForms)
	add((*adminCLI).grantCommand, nameForms)
	add((*adminCLI).resourceCommand, nameForms)
	add((*adminCLI).clusterCommand, nameForms)
	add((*adminCLI).trustedIssuerCommand, nameForms)
	add((*adminCLI).auditCommand, dataForms)
	add((*adminCLI).panicCommand, dataForms)
	add((*adminCLI).whyCommand, dataForms)
	add((*adminCLI).scanCommand, dataForms)
	add((*adminCLI).doctorCommand, dataForms)
	add((*adminCLI).argocdCommand, dataForms)
	return commands
}

// adminCLI is what these commands share: where the API is, and how to print.
type adminCLI struct {
	env       *Environment
	context   optional
	url       optional
	tokenFile optional
	insecure  bool
	found     *adminTarget
	forms     []string // that the command can print its data in
	output    string
	usernames map[string]string // by user id, as far as they were asked for
	nameless  bool              // the caller cannot read users
}

// flags makes a command, with all below it, one over the admin API.
func (a *adminCLI) flags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	contextFlag(a.env, cmd, flags, &a.context)
	flags.Var(&a.url, "admin-url", "URL of the admin listener (SIGNALBOX_ADMIN_URL; default: the context's, or "+defaultAdminURL+")")
	flags.Var(&a.tokenFile, "admin-token-file", "file with an access token for the admin API, - for standard input (SIGNALBOX_ADMIN_TOKEN_FILE; or SIGNALBOX_ADMIN_TOKEN with the token itself; default: the context's credential)")
	insecureFlag(flags, &a.insecure)
	outputFlag(cmd, flags, &a.output, a.forms)
	_ = cmd.MarkPersistentFlagFilename("admin-token-file")
	a.words(cmd)
}

// group makes a command that only holds others.
func (a *adminCLI) group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example,
		Args: noSubcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

// oneArg wants exactly the thing that what names.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return &usageError{fmt.Errorf("one %s is needed; see %s --help", what, cmd.CommandPath())}
		}
		return nil
	}
}

// api is the client of the service that the command is for.
func (a *adminCLI) api() (*admin.API, error) {
	target, err := a.target()
	if err != nil {
		return nil, err
	}
	if err := checkOutput(a.output, a.forms); err != nil {
		return nil, err
	}
	return admin.New(target.base.String(), admin.Options{
		Token:        target.source,
		HTTPClient:   &http.Client{Transport: waitTransport{a.env.Err, target.String()}},
		Timeout:      adminTimeout,
		InsecureHTTP: true, // target has looked, and knows --insecure-http
	})
}

// waitTransport tells a person whom an answer is waited for from.
type waitTransport struct {
	err    io.Writer
	target string
}

func (p waitTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	defer waiting(p.err, p.target)()
	return http.DefaultTransport.RoundTrip(r)
}

// call runs an operation that takes one thing: an id or a body.
func call[In, Out any](ctx context.Context, a *adminCLI, do func(*admin.API, context.Context, In) (Out, error), in In) (out Out, err error) {
	api, err := a.api()
	if err != nil {
		return out, err
	}
	return do(api, ctx, in)
}

// callOf runs an operation that takes two: an id and a body, or a filter and a page.
func callOf[Of, In, Out any](ctx context.Context, a *adminCLI, do func(*admin.API, context.Context, Of, In) (Out, error), of Of, in In) (out Out, err error) {
	api, err := a.api()
	if err != nil {
		return out, err
	}
	return do(api, ctx, of, in)
}

// words gives a command, and all below it, the words for what the service has said or why it did not.
func (a *adminCLI) words(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.worded(run(cmd, args)) }
	}
	for _, below := range cmd.Commands() {
		a.words(below)
	}
}

// worded keeps what a command has said around the error of the client.
func (a *adminCLI) worded(err error) error {
	var refused *admin.Error
	var unreached *admin.UnreachedError
	var other *admin.NotAPIError
	say := func(inner error, words string) error {
		return errors.New(strings.Replace(err.Error(), inner.Error(), words, 1))
	}
	switch {
	case errors.As(err, &refused):
		return say(refused, explain.Printable(refused.Error()))
	case errors.As(err, &unreached):
		return say(unreached, noAnswer(unreached.Err, a.found.String(), "--admin-url", adminTimeout).Error())
	case errors.As(err, &other) && other.StatusCode < 300:
		return say(other, "what "+explain.Printable(a.found.String())+" answered cannot be read: is --admin-url right?")
	case errors.As(err, &other):
		return say(other, "the admin API answered "+explain.Printable(other.Status)+": is --admin-url right?")
	}
	return err
}

func isUnreached(err error) bool {
	var unreached *admin.UnreachedError
	return errors.As(err, &unreached)
}

func isStatus(err error, status int) bool {
	var refused *admin.Error
	return errors.As(err, &refused) && refused.Status == status
}

// lister lists a page of something.
type lister[T any] func(*admin.API, context.Context, admin.Paging) (admin.Page[T], error)

// readList reads a list page by page, at most limit items; 0 means all of them.
// It says whether there are more.
func readList[T any](ctx context.Context, a *adminCLI, list lister[T], limit int) (_ []T, more bool, err error) {
	items, told := []T{}, a.env.now()
	api, err := a.api()
	if err != nil {
		return nil, false, err
	}
	part := admin.Paging{Limit: admin.MaxPage}
	for {
		if limit > 0 {
			part.Limit = min(admin.MaxPage, limit-len(items))
		}
		page, err := list(api, ctx, part)
		if err != nil {
			return nil, false, err
		}
		items = append(items, page.Items...)
		if now := a.env.now(); page.Next != "" && now.Sub(told) > time.Second && isTerminal(a.env.Err) {
			told = now
			fmt.Fprintf(a.env.Err, "read %d so far\n", len(items))
		}
		if page.Next == "" || limit > 0 && len(items) >= limit {
			return items, page.Next != "", nil
		}
		part.After = page.Next
	}
}

// listing is a command that lists things.
type listing[T any] struct {
	list    lister[T]
	columns []string
	row     func(T) []string
	arrange func([]T) []T                        // sorts and omits; nil for as they come
	prepare func(ctx context.Context, items []T) // before rows are made; nil for nothing
	check   func(ctx context.Context) error      // before anything is asked for; nil for nothing
	none    string                               // said of an empty list, which is no table
}

func (l listing[T]) command(a *adminCLI, short, example string) *cobra.Command {
	limit, wide := 0, false
	cmd := &cobra.Command{
		Use: "list", Short: short, Example: example, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return &usageError{errors.New("--limit must not be negative")}
			}
			if l.check != nil {
				if err := l.check(cmd.Context()); err != nil {
					return err
				}
			}
			items, more, err := readList(cmd.Context(), a, l.list, limit)
			if err != nil {
				return err
			}
			if more {
				fmt.Fprintf(a.env.Err, "there are more: raise --limit, or --limit 0 for all\n")
			}
			if l.arrange != nil {
				items = l.arrange(items)
			}
			if len(items) == 0 { // else a mistyped name looks like a person without any
				a.done("%s", l.none)
			}
			if a.output != "text" {
				return printList(a.env.Out, a.output, items)
			}
			if len(items) == 0 {
				return nil
			}
			if l.prepare != nil {
				l.prepare(cmd.Context(), items)
			}
			rows := make([][]string, 0, len(items))
			for _, item := range items {
				rows = append(rows, l.row(item))
			}
			return printTable(a.env.Out, screenOf(a.env, wide), l.columns, rows)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 1000, "how many at most; 0 for all")
	wideFlag(cmd, &wide)
	return cmd
}

// show prints one thing.
func (a *adminCLI) show(value any) error {
	if a.output != "text" {
		return printData(a.env.Out, a.output, value)
	}
	return printFields(a.env.Out, value, a.env.now())
}

// showData prints what a person has been told already.
func (a *adminCLI) showData(value any) error {
	if a.output == "text" {
		return nil
	}
	return printData(a.env.Out, a.output, value)
}

// completeIDs offers ids from a list. A shell waits for it, so it gives up soon.
func completeIDs[T any](a *adminCLI, list lister[T], idOf func(T) string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()
		items, _, err := readList(ctx, a, list, 500)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var ids []cobra.Completion
		for _, item := range items {
			if id := idOf(item); strings.HasPrefix(id, prefix) {
				ids = append(ids, explain.Printable(id))
			}
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *adminCLI) clientIDs() cobra.CompletionFunc {
	return completeIDs(a, (*admin.API).ListClients, func(c admin.Client) string { return c.ClientID })
}

func (a *adminCLI) userNames() cobra.CompletionFunc {
	return completeIDs(a, everybody, func(u admin.User) string { return u.Username })
}

func (a *adminCLI) resourceIDs() cobra.CompletionFunc {
	return completeIDs(a, (*admin.API).ListResources, func(r admin.Resource) string { return r.ID })
}

func (a *adminCLI) clusterNames() cobra.CompletionFunc {
	return completeIDs(a, (*admin.API).ListClusters, func(c admin.Cluster) string { return c.Name })
}

func (a *adminCLI) issuerNames() cobra.CompletionFunc {
	return completeIDs(a, (*admin.API).ListTrustedIssuers, func(t admin.TrustedIssuer) string { return t.Name })
}

func (a *adminCLI) keyIDs() cobra.CompletionFunc {
	return completeIDs(a, (*admin.API).ListKeys, func(k admin.Key) string { return k.KeyID })
}

func (a *adminCLI) grantIDs() cobra.CompletionFunc {
	grants := func(api *admin.API, ctx context.Context, p admin.Paging) (admin.Page[admin.Grant], error) {
		return api.ListGrants(ctx, admin.GrantFilter{}, p)
	}
	return completeIDs(a, grants, func(g admin.Grant) string { return g.GrantID })
}

func (a *adminCLI) nodeNames() cobra.CompletionFunc {
	return completeIDs(a, (*admin.API).ListNodes, func(n admin.JournalNode) string { return n.Node })
}

// confirm asks a person before something that ends things: what has ended stays
// ended. A script has nobody to ask and must say --yes.
func (a *adminCLI) confirm(question string, yes bool) error {
	if yes {
		return nil
	}
	if !isTerminal(a.env.In) {
		return &usageError{errors.New("what this ends stays ended, and nobody can be asked here: say --yes")}
	}
	if target, err := a.target(); err == nil && target.context.Name != "" {
		question = "Context " + target.context.Name + ": " + question // several services look alike
	}
	fmt.Fprintf(a.env.Err, "%s Type yes to continue: ", explain.Printable(question))
	line, err := bufio.NewReader(io.LimitReader(a.env.In, 1024)).ReadString('\n')
	if err != nil { // no Enter has ended the line of the question
		fmt.Fprintln(a.env.Err)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		fmt.Fprintln(a.env.Err, "nothing was changed")
		return errSilent
	}
	return nil
}

func (a *adminCLI) done(format string, args ...any) {
	fmt.Fprintln(a.env.Err, explain.Printable(fmt.Sprintf(format, args...)))
}
