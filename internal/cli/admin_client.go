package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/server/admin/api"
)

const (
	defaultAdminURL = "http://127.0.0.1:9090"
	adminTimeout    = 30 * time.Second
	// maxAnswer bounds an answer: a page of 1000 with long values fits.
	maxAnswer = 64 << 20
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

func (a *adminCLI) flags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	contextFlag(a.env, cmd, flags, &a.context)
	flags.Var(&a.url, "admin-url", "URL of the admin listener (SIGNALBOX_ADMIN_URL; default: the context's, or "+defaultAdminURL+")")
	flags.Var(&a.tokenFile, "admin-token-file", "file with an access token for the admin API, - for standard input (SIGNALBOX_ADMIN_TOKEN_FILE; or SIGNALBOX_ADMIN_TOKEN with the token itself; default: the context's credential)")
	insecureFlag(flags, &a.insecure)
	outputFlag(cmd, flags, &a.output, a.forms)
	_ = cmd.MarkPersistentFlagFilename("admin-token-file")
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

var adminHTTP = &http.Client{CheckRedirect: followNone}

// request sends one request. Close the answer's body.
func (a *adminCLI) request(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	target, err := a.target()
	if err != nil {
		return nil, err
	}
	defer waiting(a.env.Err, target.String())()
	return a.send(ctx, target, method, path, query, in)
}

// send asks once more if the token was refused and its source may have another.
// A refused request has changed nothing.
func (a *adminCLI) send(ctx context.Context, target *adminTarget, method, path string, query url.Values, in any) (*http.Response, error) {
	if err := checkOutput(a.output, a.forms); err != nil {
		return nil, err
	}
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	address := target.base.String() + "/admin/v1" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	for again := false; ; again = true {
		token, err := target.bearer(ctx)
		if err != nil {
			return nil, err
		}
		request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		request.Header.Set("Authorization", "Bearer "+token)
		if body != nil {
			request.Header.Set("Content-Type", "application/json")
		}
		response, err := adminHTTP.Do(request)
		if err != nil {
			return nil, noAdminAnswer(target, err)
		}
		if response.StatusCode < 300 {
			return response, nil
		}
		err = refusal(response)
		_ = response.Body.Close()
		if again || response.StatusCode != http.StatusUnauthorized || !target.renewable() {
			return nil, err
		}
		target.forget()
	}
}

func noAdminAnswer(target *adminTarget, err error) error {
	return noAnswer(err, target.String(), "--admin-url", adminTimeout)
}

// refusal says what the API said, and what to do about it.
func refusal(response *http.Response) error {
	var said api.Error
	data, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil || json.Unmarshal(data, &said) != nil || said.Code == "" {
		return fmt.Errorf("the admin API answered %s: is --admin-url right?", explain.Printable(response.Status))
	}
	said.Status = response.StatusCode
	text := explain.Printable(said.Description)
	if said.RequestID != "" {
		text += " (request " + explain.Printable(said.RequestID) + ")"
	}
	return &refusedError{said, text}
}

// refusedError is a refusal of the admin API.
type refusedError struct {
	said api.Error
	text string
}

func (e *refusedError) Error() string { return e.text }

func isStatus(err error, status int) bool {
	var refused *refusedError
	return errors.As(err, &refused) && refused.said.Status == status
}

// call sends a request and reads the answer into out.
func (a *adminCLI) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	target, err := a.target()
	if err != nil {
		return err
	}
	defer waiting(a.env.Err, target.String())()
	response, err := a.send(ctx, target, method, path, query, in)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if out == nil || response.StatusCode == http.StatusNoContent {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return noAdminAnswer(target, err)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("what %s answered cannot be read: is --admin-url right?", explain.Printable(target.String()))
	}
	return nil
}

// at is the path of one thing.
func at(list, id string, more ...string) string {
	return list + "/" + url.PathEscape(id) + strings.Join(more, "")
}

// readList reads a list page by page, at most limit items; 0 means all of them.
// It says whether there are more.
func readList[T any](ctx context.Context, a *adminCLI, path string, query url.Values, limit int) (_ []T, more bool, err error) {
	const pageSize = 1000
	items, told := []T{}, a.env.now()
	if query == nil {
		query = url.Values{}
	}
	for {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-len(items))
		}
		query.Set("limit", strconv.Itoa(size))
		var page api.Page[T]
		if err := a.call(ctx, http.MethodGet, path, query, nil, &page); err != nil {
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
		query.Set("after", page.Next)
	}
}

// listing is a command that lists things.
type listing[T any] struct {
	path    string
	columns []string
	row     func(T) []string
	arrange func([]T) []T                                 // sorts and leaves out; nil for as they come
	prepare func(ctx context.Context, items []T)          // before rows are made; nil for nothing
	query   func(ctx context.Context) (url.Values, error) // nil for none
	none    string                                        // said of an empty list, which is no table
}

func (l listing[T]) command(a *adminCLI, short, example string) *cobra.Command {
	limit, wide := 0, false
	cmd := &cobra.Command{
		Use: "list", Short: short, Example: example, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return &usageError{errors.New("--limit must not be negative")}
			}
			var query url.Values
			var err error
			if l.query != nil {
				if query, err = l.query(cmd.Context()); err != nil {
					return err
				}
			}
			items, more, err := readList[T](cmd.Context(), a, l.path, query, limit)
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
func (a *adminCLI) completeIDs(path, member string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()
		items, _, err := readList[map[string]any](ctx, a, path, nil, 500)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var ids []cobra.Completion
		for _, item := range items {
			if id, _ := item[member].(string); strings.HasPrefix(id, prefix) {
				ids = append(ids, explain.Printable(id))
			}
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
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
