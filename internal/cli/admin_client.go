package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/server/admin"
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
	add((*adminCLI).auditCommand, dataForms)
	add((*adminCLI).panicCommand, dataForms)
	return commands
}

// adminCLI is what these commands share: where the API is, and how to print.
type adminCLI struct {
	env       *Environment
	url       string
	tokenFile string
	forms     []string // that the command can print its data in
	output    string
	usernames map[string]string // by user id, as far as they were asked for
	nameless  bool              // the caller cannot read users
}

func (a *adminCLI) flags(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&a.url, "admin-url", cmp.Or(a.env.Getenv("SIGNALBOX_ADMIN_URL"), defaultAdminURL), "URL of the admin listener (SIGNALBOX_ADMIN_URL)")
	flags.StringVar(&a.tokenFile, "admin-token-file", a.env.Getenv("SIGNALBOX_ADMIN_TOKEN_FILE"),
		"file with an access token for the admin API (SIGNALBOX_ADMIN_TOKEN_FILE; or SIGNALBOX_ADMIN_TOKEN with the token itself)")
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

// token is read for every connection: whoever renews the file need not
// restart what follows the journal.
func (a *adminCLI) token() (string, error) {
	if a.tokenFile != "" {
		return readSecret(a.env, a.tokenFile)
	}
	if token := strings.TrimSpace(a.env.Getenv("SIGNALBOX_ADMIN_TOKEN")); token != "" {
		return token, nil
	}
	return "", &usageError{errors.New("an access token for the admin API is needed: --admin-token-file FILE, SIGNALBOX_ADMIN_TOKEN_FILE or SIGNALBOX_ADMIN_TOKEN; " +
		"get one with: signalbox token get --resource urn:signalbox:admin")}
}

// base checks the URL, and warns where the token would travel in the open.
func (a *adminCLI) base() (*url.URL, error) {
	u, err := url.Parse(a.url)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, &usageError{fmt.Errorf("--admin-url must be a URL like %s", defaultAdminURL)}
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		fmt.Fprintln(a.env.Err, "warning: the admin token goes to another machine in plain HTTP")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

var adminHTTP = &http.Client{CheckRedirect: followNone}

// request sends one request. Close the answer's body.
func (a *adminCLI) request(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	defer a.waiting()()
	return a.send(ctx, method, path, query, in)
}

func (a *adminCLI) waiting() (answered func()) { return waiting(a.env.Err, a.target()) }

func (a *adminCLI) target() string { return "the admin API at " + a.url }

func (a *adminCLI) noAnswer(err error) error {
	return noAnswer(err, a.target(), "--admin-url", adminTimeout)
}

func (a *adminCLI) send(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	if err := checkOutput(a.output, a.forms); err != nil {
		return nil, err
	}
	base, err := a.base()
	if err != nil {
		return nil, err
	}
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	target := base.String() + "/admin/v1" + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := adminHTTP.Do(request)
	if err != nil {
		return nil, a.noAnswer(err)
	}
	if response.StatusCode >= 300 {
		defer func() { _ = response.Body.Close() }()
		return nil, refusal(response)
	}
	return response, nil
}

// refusal says what the API said, and what to do about it.
func refusal(response *http.Response) error {
	var said admin.Error
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
	said admin.Error
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
	defer a.waiting()()
	response, err := a.send(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if out == nil || response.StatusCode == http.StatusNoContent {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return a.noAnswer(err)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("what %s answered cannot be read: is --admin-url right?", explain.Printable(a.target()))
	}
	return nil
}

// at is the path of one thing.
func at(list, id string, more ...string) string {
	return list + "/" + url.PathEscape(id) + strings.Join(more, "")
}

// each reads a list page by page until limit items were given; 0 means all of
// them. It says whether there are more.
func each[T any](ctx context.Context, a *adminCLI, path string, query url.Values, limit int, yield func(T) error) (more bool, err error) {
	const pageSize = 1000
	left := limit
	for {
		if query == nil {
			query = url.Values{}
		}
		size := pageSize
		if limit > 0 {
			size = min(size, left)
		}
		query.Set("limit", strconv.Itoa(size))
		var page admin.Page[T]
		if err := a.call(ctx, http.MethodGet, path, query, nil, &page); err != nil {
			return false, err
		}
		for _, item := range page.Items {
			if err := yield(item); err != nil {
				return false, err
			}
		}
		left -= len(page.Items)
		if page.Next == "" || limit > 0 && left <= 0 {
			return page.Next != "", nil
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
	none    string                                        // said of an empty answer; empty for nothing
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
			items := []T{}
			more, err := each(cmd.Context(), a, l.path, query, limit, func(item T) error {
				items = append(items, item)
				return nil
			})
			if err != nil {
				return err
			}
			if more {
				fmt.Fprintf(a.env.Err, "there are more: raise --limit, or --limit 0 for all\n")
			}
			if len(items) == 0 && l.none != "" {
				a.done("%s", l.none)
			}
			if l.arrange != nil {
				items = l.arrange(items)
			}
			if a.output != "text" {
				return printList(a.env.Out, a.output, items)
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
		var ids []cobra.Completion
		_, err := each(ctx, a, path, nil, 500, func(item map[string]any) error {
			if id, _ := item[member].(string); strings.HasPrefix(id, prefix) {
				ids = append(ids, explain.Printable(id))
			}
			return nil
		})
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

// confirm asks a person before something that cannot be taken back. A script
// has nobody to ask and must say --yes.
func (a *adminCLI) confirm(question string, yes bool) error {
	if yes {
		return nil
	}
	if !isTerminal(a.env.In) {
		return &usageError{errors.New("this cannot be taken back: say --yes where nobody can be asked")}
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
