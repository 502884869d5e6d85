package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/issue"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/scan"
)

// scanReport is what a scan has found. No value is in it.
type scanReport struct {
	Findings []scanFinding `json:"findings"`
	Damaged  int           `json:"damaged"`
	Unread   []string      `json:"unread"`
	Bytes    int64         `json:"bytes"`
}

type scanFinding struct {
	File      string     `json:"file"`
	Line      int        `json:"line"`
	Column    int        `json:"column"`
	Times     int        `json:"times"`
	Kind      scan.Kind  `json:"kind"`
	TokenHash string     `json:"token_hash"`
	Alive     *bool      `json:"alive"` // null: not asked, or the service cannot say
	Summary   string     `json:"summary,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	Action    string     `json:"action,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Ended     bool       `json:"ended"`

	value oauth.Secret
	grant string // of a code, which is ended by its grant's id
}

func (a *adminCLI) scanCommand() *cobra.Command {
	var issuer optional
	var offline, end, yes bool
	cmd := &cobra.Command{
		Use:   "scan PATH|-...",
		Short: "Find tokens and secrets of this service in files and logs, and end them",
		Long: `Find access tokens, refresh tokens, authorization codes, client secrets and ID
tokens of this service, and other issuers' tokens that can be exchanged at it, in
a file, in all files below a folder, or on standard input (-). It also finds what
is in base64, as in Kubernetes Secrets, and reads files that gzip has compressed.
No value is ever printed.

What is found is found offline. The service is then asked which of it is alive;
--offline omits that. --end ends what is alive, each token with its grant and all
that came from it: whoever used it honestly signs in again. What cannot be ended
so, such as a client secret or a pod's own token, is shown with what to do.

JWTs are known by their issuer: --issuer, or the context's. The exit code is 1 if
something was found that is alive, or of which that is not known.`,
		Example: `  signalbox scan .                                  # before a folder is published
  git log -p --all | signalbox scan -               # all that ever was in a repository
  signalbox scan /var/log --end                     # after a log has leaked
  signalbox scan . --offline --issuer https://sts.example.com -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{errors.New("give a file, a folder, or - for standard input; see " + cmd.CommandPath() + " --help")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(a.output, a.forms); err != nil {
				return err
			}
			if offline && end {
				return &usageError{errors.New("--end needs the service, and --offline asks nobody")}
			}
			if !offline { // before an hour of reading
				if _, err := a.target(); err != nil {
					return errors.Join(err, errors.New("--offline only looks, and asks no service"))
				}
			}
			report, err := a.scan(cmd.Context(), args, issuer)
			if err != nil {
				return err
			}
			if !offline {
				if err := a.askAlive(cmd.Context(), report.Findings); err != nil {
					return err
				}
			}
			if err := a.printScan(report); err != nil {
				return err
			}
			if end {
				if err := a.endFound(cmd.Context(), report.Findings, yes); err != nil {
					return err
				}
			}
			if err := a.showData(report); err != nil {
				return err
			}
			return report.verdict()
		},
	}
	cmd.Flags().Var(&issuer, "issuer", "the issuer's URL, for JWTs (SIGNALBOX_ISSUER_URL; default: the context's)")
	cmd.Flags().BoolVar(&offline, "offline", false, "do not ask the service which are alive")
	cmd.Flags().BoolVar(&end, "end", false, "end what is alive, with its grant and all that came from it")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before --end")
	return cmd
}

// scan reads everything, offline.
func (a *adminCLI) scan(ctx context.Context, paths []string, issuer optional) (*scanReport, error) {
	c, err := chosen(a.env, a.context)
	if err != nil {
		return nil, err
	}
	s := &scan.Scanner{}
	switch url := issuer.or(a.env, "SIGNALBOX_ISSUER_URL"); {
	case url != "":
		s.Issuers = []string{url}
	case c.Issuer != "":
		s.Issuers = []string{c.Issuer}
	default:
		a.done("note: no issuer is known, so JWTs are not looked for: give --issuer, or make a context")
	}
	report := &scanReport{Findings: []scanFinding{}, Unread: []string{}}
	read := progress(a.env.Err, "reading "+strings.Join(paths, ", "))
	defer read()
	for _, path := range paths {
		if path == "-" {
			err = s.Stream(ctx, "-", a.env.In)
		} else {
			err = s.Path(ctx, path, func(path string, err error) {
				var cause *fs.PathError
				if errors.As(err, &cause) {
					err = cause.Err // without the path once more
				}
				a.done("not read: %s: %v", path, err)
				report.Unread = append(report.Unread, path)
			})
		}
		if err != nil {
			return nil, err
		}
	}
	for _, f := range s.Findings {
		found := scanFinding{
			File: f.File, Line: f.Line, Column: f.Column, Times: f.Times, Kind: f.Kind, value: f.Value, TokenHash: issue.HashOf(f.Value.Reveal()),
		}
		if !f.Expires.IsZero() {
			at := f.Expires.UTC()
			found.ExpiresAt = &at
		}
		if f.Kind == scan.Proof {
			found.proof(f, a.env.now())
		}
		report.Findings = append(report.Findings, found)
	}
	report.Damaged, report.Bytes = s.Damaged, s.Bytes
	return report, nil
}

// proof says what can be said of another issuer's token: that issuer ends it.
func (f *scanFinding) proof(found *scan.Finding, now time.Time) {
	f.Summary = "Another issuer's token for this one, of " + found.Subject + "."
	f.Action = "It can be exchanged here until it ends: delete the pod, or end what came from its workload with `signalbox panic --workload`."
	if !found.Expires.IsZero() && !now.Before(found.Expires) {
		over := false
		f.Alive, f.Reason, f.Action = &over, "it expired at "+found.Expires.UTC().Format(time.RFC3339), ""
	}
}

// askAlive asks the service about each value. What is another issuer's stays here.
func (a *adminCLI) askAlive(ctx context.Context, findings []scanFinding) error {
	asked := progress(a.env.Err, "asking about "+strconv.Itoa(len(findings))+" values")
	defer asked()
	for i := range findings {
		f := &findings[i]
		if f.Kind == scan.Proof {
			continue
		}
		why, err := call(ctx, a, (*admin.API).WhyToken, admin.AskWhy{Token: f.value.Reveal()})
		if err != nil {
			return err
		}
		f.Alive, f.Summary, f.Reason, f.Action = why.Alive, why.Summary, why.Reason, why.Action
		switch {
		case why.Kind == "unknown" && strings.HasPrefix(f.value.Reveal(), "eyJ"):
			dead := false // it names this issuer, which does not accept it
			f.Alive = &dead
		case f.Kind == scan.AuthorizationCode:
			f.grant = why.Key
		case f.Kind == scan.IDToken:
			f.Action = "No API accepts an ID token. It tells who the person is."
		}
	}
	return nil
}

// endable says whether --end can end it.
func (f *scanFinding) endable() bool {
	return f.Alive != nil && *f.Alive && (f.Kind == scan.AccessToken || f.Kind == scan.RefreshToken || f.grant != "")
}

func (a *adminCLI) endFound(ctx context.Context, findings []scanFinding, yes bool) error {
	alive := 0
	for _, f := range findings {
		if f.endable() {
			alive++
		}
	}
	if alive == 0 {
		a.done("there is nothing to end")
		return nil
	}
	if err := a.confirm(fmt.Sprintf("End %d values now, each with its grant and all that came from it?", alive), yes); err != nil {
		return err
	}
	for i := range findings {
		f := &findings[i]
		if !f.endable() {
			continue
		}
		body := admin.Revoke{Token: f.value.Reveal(), WithGrant: f.Kind == scan.AccessToken}
		if f.grant != "" {
			body = admin.Revoke{GrantID: f.grant, Force: true}
		}
		_, err := call(ctx, a, (*admin.API).Revoke, body)
		if err != nil && !isStatus(err, http.StatusNotFound) { // it was over before it could be ended
			return fmt.Errorf("%s:%d:%d and what follows it is still alive: %w", f.File, f.Line, f.Column, err)
		}
		dead := false
		f.Alive, f.Ended = &dead, true
	}
	a.done("ended %d: each is dead, with all that came from its grant", alive)
	return nil
}

// verdict is an error as long as something is left to do.
func (r *scanReport) verdict() error {
	for _, f := range r.Findings {
		if f.Alive == nil || *f.Alive {
			return errSilent
		}
	}
	if len(r.Unread) > 0 {
		return errSilent
	}
	return nil
}

// printScan writes the findings for people.
func (a *adminCLI) printScan(r *scanReport) error {
	if a.output != "text" {
		return nil
	}
	var b bytes.Buffer
	for _, f := range r.Findings {
		alive := "not known"
		if f.Alive != nil {
			alive = map[bool]string{true: "ALIVE", false: "dead"}[*f.Alive]
		}
		times := ""
		if f.Times > 1 {
			times = fmt.Sprintf(", %d times", f.Times)
		}
		fmt.Fprintf(&b, "%s:%d:%d: %s, %s%s\n", explain.Printable(f.File), f.Line, f.Column, strings.ReplaceAll(string(f.Kind), "_", " "), alive, times)
		for _, text := range []string{f.Summary, f.Reason, f.Action} {
			if text != "" {
				fmt.Fprintln(&b, "    "+explain.Printable(text))
			}
		}
	}
	if _, err := a.env.Out.Write(b.Bytes()); err != nil {
		return err
	}
	a.done("%d values found in %d bytes%s", len(r.Findings), r.Bytes, map[bool]string{true: fmt.Sprintf("; %d more are cut off or masked", r.Damaged)}[r.Damaged > 0])
	return nil
}
