package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/explain"
)

func (a *adminCLI) whyCommand() *cobra.Command {
	tokenFile := ""
	var auditLogs []string
	cmd := &cobra.Command{
		Use:   "why REQUEST_ID|TOKEN|JTI|-",
		Short: "Explain a request, a token, a grant or a session: what, whose, alive or dead, why, and what to do",
		Long: `Explain the number on an error page, a token, or the id of a token (jti), a grant
or a browser session (sid): what it is, whose, what it allows, whether it is alive,
why it was refused or what ended it, and what to do. The exit code is 0 if it is
known and 1 if it is not. Of an ID token, which no API accepts, it explains the
session.

Give a token on standard input (-) or in a file (--token-file): other users of
the machine see the command line, and the shell keeps it. The token goes to the
service and is shown nowhere. A refused request is known for about an hour on
the node that answered, and longer if the journal has it.

With --audit-log the audit logs of Kubernetes API servers are read too, and joined
with the journal by the credential id that they have in common, JTI= and the jti:
who got the proof of a pod in the hub's log, what it was exchanged for here, and
which requests were made with the token in the spoke's. The logs are JSON lines of
audit.k8s.io/v1, in any order; one of them may be standard input (-). They are
read on this machine and sent nowhere.`,
		Example: `  signalbox why 66f1c0de5b0a9a3e4d2c1b0a          # the number on an error page
  signalbox why - < leaked-token.txt
  signalbox why ` + exampleGrant + ` -o json
  signalbox why ` + exampleGrant + ` --audit-log hub-audit.log --audit-log spoke-audit.log
  zcat spoke-audit-*.gz | signalbox why ` + exampleGrant + ` --audit-log hub-audit.log --audit-log -`,
		Args: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (tokenFile != "") || len(args) > 1 {
				return &usageError{errors.New("give one request id, token or jti, - for standard input, or --token-file; see " + cmd.CommandPath() + " --help")}
			}
			return checkAuditLogs(auditLogs, tokenFile == "-" || len(args) == 1 && args[0] == "-")
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			value, err := a.asked(args, tokenFile)
			if err != nil {
				return err
			}
			why, err := a.why(cmd.Context(), value)
			if err != nil {
				return err
			}
			if len(auditLogs) > 0 {
				err = a.whyInLogs(cmd.Context(), why, auditLogs)
			} else if a.output != "text" {
				err = printData(a.env.Out, a.output, why)
			} else {
				err = a.printWhy(cmd.Context(), why)
			}
			if err == nil && !why.Found {
				return errSilent
			}
			return err
		},
	}
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file with the token, - for standard input")
	cmd.Flags().StringArrayVar(&auditLogs, "audit-log", nil, "audit log of a Kubernetes API server, - for standard input; may be repeated")
	_ = cmd.MarkFlagFilename("token-file")
	_ = cmd.MarkFlagFilename("audit-log")
	return cmd
}

// asked is what the caller wants explained.
func (a *adminCLI) asked(args []string, tokenFile string) (string, error) {
	switch {
	case tokenFile != "":
		return readValue(a.env, tokenFile, "a token")
	case args[0] == "-":
		return readValue(a.env, "-", "a request id, a token or a jti")
	case isToken(args[0]):
		fmt.Fprintln(a.env.Err, "warning: a token on the command line is seen by other users and stays in the shell's history; give it on standard input: signalbox why -")
	}
	return strings.TrimSpace(args[0]), nil
}

// isID is for what may be in a URL: ids of requests, tokens, grants and sessions.
var isID = regexp.MustCompile(`\A[0-9a-fA-F-]{1,64}\z`)

func isToken(s string) bool {
	return strings.HasPrefix(s, "sbx_") || strings.HasPrefix(s, "eyJ") || strings.Count(s, ".") == 2
}

// why asks the service. What may be a token goes into no URL, and what is
// neither goes nowhere.
func (a *adminCLI) why(ctx context.Context, value string) (admin.Why, error) {
	switch {
	case isID.MatchString(value):
		return call(ctx, a, (*admin.API).Why, value)
	case isToken(value):
		return call(ctx, a, (*admin.API).WhyToken, admin.AskWhy{Token: value})
	}
	return admin.Why{}, errors.New("this is neither the id of a request (24 hexadecimal digits), nor that of a token, grant or session (a UUID), nor a token")
}

// printWhy writes the answer for people: what was found is data, that nothing
// was found is said beside it.
func (a *adminCLI) printWhy(ctx context.Context, why admin.Why) error {
	if !why.Found {
		a.done("%s", why.Summary)
		if why.Reason != "" {
			a.done("%s", why.Reason)
		}
		if len(why.Nodes) > 0 {
			a.done("other nodes that may know it: %s", strings.Join(why.Nodes, ", "))
		}
		return nil
	}
	subjects := subjectsOf(why.Records)
	if why.Token != nil {
		subjects = append(subjects, why.Token.Subject)
	}
	if why.Session != nil && why.Session.Subject != nil {
		subjects = append(subjects, *why.Session.Subject)
	}
	if why.Grant != nil {
		subjects = append(subjects, why.Grant.Subject)
	}
	a.learnNames(ctx, subjects...)
	var b bytes.Buffer
	fmt.Fprintln(&b, explain.Printable(why.Summary))
	if err := printTable(&b, screen{}, nil, a.whyRows(why)); err != nil {
		return err
	}
	if len(why.Records) > 0 {
		fmt.Fprintln(&b, "\nin the journal:")
	}
	for _, r := range why.Records {
		fmt.Fprintln(&b, "  "+explain.Printable(a.recordText(r)))
	}
	if why.Partial {
		a.done("the journal is long: it was not searched to its end")
	}
	_, err := a.env.Out.Write(b.Bytes())
	return err
}

// whyRows are the parts of an answer, each with a word before it.
func (a *adminCLI) whyRows(why admin.Why) (rows [][]string) {
	now := a.env.now()
	add := func(word, text string) {
		if text != "" {
			rows = append(rows, []string{"  " + word, text})
		}
	}
	moment := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return when(&t) + " (" + since(t, now) + ")"
	}
	if why.Alive != nil {
		said := map[bool]string{true: "yes", false: "no: it is dead"}
		if why.Session != nil {
			said = map[bool]string{true: "yes: the person is signed in", false: "no: the session is over"}
		}
		add("alive", said[*why.Alive])
	}
	if q := why.Request; q != nil {
		add("request", q.Method+" "+q.Path+", answered "+strconv.Itoa(q.Status)+" "+q.Error)
		add("when", moment(q.Time))
		client := q.ClientID
		if client != "" && !q.Proved {
			client += ", as the caller says: it has not proved it"
		}
		add("client", client)
		add("from", q.Remote)
		add("node", q.Node)
	}
	switch {
	case why.Token != nil:
		t := why.Token
		add("whose", a.whose(t.Subject, t.ClientID))
		add("allows", allows(t.Scope, t.Audience))
		add("issued", moment(t.IssuedAt))
		add("expires", moment(t.ExpiresAt))
		add("grant", t.GrantID)
	case why.Grant != nil:
		g := why.Grant
		add("whose", a.whose(g.Subject, g.ClientID))
		add("allows", allows(g.Scope, g.Resources))
		if g.CreatedAt != nil {
			add("created", moment(*g.CreatedAt))
		}
		if g.ExpiresAt != nil {
			add("expires", moment(*g.ExpiresAt))
		}
	}
	if s := why.Session; s != nil {
		if why.Token == nil && s.Subject != nil {
			add("whose", a.whose(*s.Subject, ""))
		}
		if s.AuthTime != nil && s.ExpiresAt != nil {
			add("signed in", moment(*s.AuthTime)+", by "+strings.Join(s.AMR, " and "))
			add("until", moment(*s.ExpiresAt))
		}
		if why.Token != nil {
			add("session", s.SessionID)
		}
	}
	add("why", why.Reason)
	if e := why.EndedBy; e != nil {
		text := strings.TrimSpace(e.Kind + " " + e.Key)
		if e.At != nil {
			text += ", " + moment(*e.At)
		}
		if e.By != "" {
			text += ", by " + e.By
		}
		add("ended by", text)
	}
	add("what to do", why.Action)
	return rows
}

// whose names a person with the client in between, and a machine once.
func (a *adminCLI) whose(s admin.Subject, client string) string {
	text := strings.TrimSpace(s.Kind + " " + a.named(s.ID))
	if client == "" || client == s.ID {
		return text
	}
	return text + ", through the client " + client
}

func allows(scope string, audience []string) string {
	switch {
	case scope == "":
		return strings.Join(audience, " ")
	case len(audience) == 0:
		return scope
	}
	return scope + " at " + strings.Join(audience, " ")
}
