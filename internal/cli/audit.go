package cli

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/journal/verify"
	"github.com/signalbox-sts/signalbox/internal/keys"
	"github.com/signalbox-sts/signalbox/internal/node"
)

func (a *adminCLI) auditCommand() *cobra.Command {
	return a.group("audit", "Follow, search and prove the journal",
		`  signalbox audit tail
  signalbox audit search --client night-job --since 24h
  signalbox audit verify /var/lib/signalbox/journal`,
		a.auditTail(), a.auditSearch(), a.auditVerify(), a.auditNodes(), a.auditRetire())
}

// auditFilter are the flags that tail and search share.
type auditFilter struct {
	admin.JournalMatch
	user string
}

func (f *auditFilter) add(a *adminCLI, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.Type, "type", "", "only this type of record, such as token.issued")
	flags.StringVar(&f.ClientID, "client", "", "only records about this client")
	flags.StringVar(&f.user, "user", "", "only records about this user, by username or id")
	flags.StringVar(&f.GrantID, "grant", "", "only records about this grant")
	flags.StringVar(&f.TokenID, "jti", "", "only records about the token with this id")
	flags.StringVar(&f.TokenHash, "token-hash", "", "only records about the token with this SHA-256, in hexadecimal: 64 digits, or the first 32")
	flags.StringVar(&f.RequestID, "request-id", "", "only records of this request")
	flags.StringVar(&f.Remote, "remote", "", "only records of this IP address")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(eventTypes(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("client", a.clientIDs())
	_ = cmd.RegisterFlagCompletionFunc("user", a.userNames())
}

func eventTypes() []string {
	var types []string
	for _, t := range authority.EventTypes() {
		types = append(types, string(t))
	}
	return types
}

// match is what the flags choose.
func (f *auditFilter) match(ctx context.Context, a *adminCLI) (admin.JournalMatch, error) {
	m := f.JournalMatch
	if types := eventTypes(); m.Type != "" && !slices.Contains(types, m.Type) {
		return m, &usageError{fmt.Errorf("there is no type of record %q%s; the types are: %s", m.Type, meant(m.Type, types), strings.Join(types, ", "))}
	}
	var err error
	if m.TokenHash, err = journalHash(m.TokenHash); err != nil || f.user == "" {
		return m, err
	}
	m.Subject, err = a.userID(ctx, f.user)
	if isStatus(err, http.StatusForbidden) { // journal:read alone does not find names
		m.Subject, err = f.user, nil
	}
	return m, err
}

// journalHash takes the whole SHA-256 of a token's value, as sha256sum prints
// it, or the half of it that the journal holds. What is neither is not
// repeated: it may be the token.
func journalHash(s string) (string, error) {
	_, err := hex.DecodeString(s)
	if err != nil || len(s) != 0 && len(s) != 32 && len(s) != 64 {
		return "", &usageError{errors.New(`--token-hash must be the SHA-256 of the token in hexadecimal, 64 digits or the first 32 of them: printf %s "$TOKEN" | sha256sum`)}
	}
	return strings.ToLower(s[:min(len(s), 32)]), nil
}

func (a *adminCLI) auditSearch() *cobra.Command {
	var flags auditFilter
	var filter admin.JournalFilter
	var since, until string
	limit := 0
	cmd := &cobra.Command{
		Use: "search", Short: "Search this node's journal; the newest records, oldest of them first",
		Example: `  signalbox audit search --client night-job --since 7d
  signalbox audit search --type token.refused --since 2026-01-31T00:00:00Z -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 100_000 {
				return &usageError{errors.New("--limit must be from 1 to 100000")}
			}
			var err error
			if filter.JournalMatch, err = flags.match(cmd.Context(), a); err != nil {
				return err
			}
			now := a.env.now()
			for _, flag := range []struct {
				name, value string
				to          *time.Time
			}{{"since", since, &filter.Since}, {"until", until, &filter.Until}} {
				if flag.value == "" {
					continue
				}
				if *flag.to, err = moment(flag.value, now); err != nil {
					return &usageError{fmt.Errorf("--%s: %w", flag.name, err)}
				}
			}
			search := func(api *admin.API, ctx context.Context, p admin.Paging) (admin.Page[admin.Record], error) {
				return api.SearchJournal(ctx, filter, p)
			}
			records, more, err := readList(cmd.Context(), a, search, limit)
			if err != nil {
				return err
			}
			if more {
				fmt.Fprintln(a.env.Err, "there are older ones: raise --limit")
			}
			if len(records) == 0 { // else a mistyped name looks like a quiet day
				a.done("no records")
			}
			if a.output == "text" {
				a.learnNames(cmd.Context(), subjectsOf(records)...)
			}
			out := bufio.NewWriter(a.env.Out)
			for _, r := range slices.Backward(records) {
				if err := a.printRecord(out, r); err != nil {
					return err
				}
			}
			return out.Flush()
		},
	}
	flags.add(a, cmd)
	cmd.Flags().StringVar(&since, "since", "", "from this time on: RFC 3339, a date, or how long ago (90m, 24h, 7d, 2w)")
	cmd.Flags().StringVar(&until, "until", "", "before this time")
	cmd.Flags().StringVar(&filter.Text, "text", "", "only records with this text in any of their values")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many at most")
	return cmd
}

// moment reads a time, a day, or how long ago something was.
func moment(s string, now time.Time) (time.Time, error) {
	if ago, ok := parseAgo(s); ok {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return now, fmt.Errorf("%q is no time like 2026-01-31T12:00:00Z, no date, and no length of time like 90m, 24h, 7d or 2w", s)
}

var daysAndWeeks = regexp.MustCompile(`^(?:([0-9]{1,4})w)?(?:([0-9]{1,5})d)?(.*)$`)

// parseAgo reads a duration that may begin with weeks and days. Those are of 7
// days and of 24 hours: nobody counts leap seconds in a search.
func parseAgo(s string) (time.Duration, bool) {
	m := daysAndWeeks.FindStringSubmatch(s)
	if m == nil || s == "" {
		return 0, false
	}
	weeks, _ := strconv.Atoi(m[1]) // the pattern has only digits, and few
	days, _ := strconv.Atoi(m[2])
	ago := time.Duration(weeks*7+days) * 24 * time.Hour
	if m[3] == "" {
		return ago, true
	}
	rest, err := time.ParseDuration(m[3])
	return ago + rest, err == nil && rest >= 0 && ago+rest >= 0
}

func (a *adminCLI) auditTail() *cobra.Command {
	var flags auditFilter
	var filter admin.TailFilter
	cmd := &cobra.Command{
		Use: "tail", Short: "Follow this node's journal until interrupted",
		Example: `  signalbox audit tail --type token.refused
  signalbox audit tail -o json | jq .client_id`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if filter.JournalMatch, err = flags.match(cmd.Context(), a); err != nil {
				return err
			}
			return a.tail(cmd.Context(), filter)
		},
	}
	flags.add(a, cmd)
	cmd.Flags().Uint64Var(&filter.From, "from", 0, "the number of the first record (default: from now on)")
	return cmd
}

// tail follows, and connects again when the stream ends with its token: the
// token file may hold a new one. It continues after the last record it saw.
func (a *adminCLI) tail(ctx context.Context, filter admin.TailFilter) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	if filter.From == 0 {
		now, err := api.ShowJournal(ctx)
		if err != nil {
			return err
		}
		filter.From = now.Seq + 1
	}
	for {
		began, last := time.Now(), uint64(0)
		err := api.TailJournal(ctx, filter, func(r admin.Record) error {
			if a.output == "text" {
				a.learnNames(ctx, subjectsOf([]admin.Record{r})...)
			}
			if err := a.printRecord(a.env.Out, r); err != nil {
				return &writeError{err}
			}
			last = r.Seq
			return nil
		})
		var write *writeError
		var refused *admin.Error
		if errors.As(err, &write) || errors.As(err, &refused) || isUnreached(err) || ctx.Err() != nil {
			return unlessInterrupted(ctx, err)
		}
		if last == 0 && time.Since(began) < time.Second {
			return errors.New("the stream ended at once: the service stops, or its journal is broken")
		}
		filter.From = max(filter.From, last+1)
	}
}

// unlessInterrupted: an interrupt is how following ends.
func unlessInterrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// writeError is a failure of our own output.
type writeError struct{ error }

// printRecord writes one record: as a line of JSON, as a YAML document, or as
// a line in words.
func (a *adminCLI) printRecord(w io.Writer, r admin.Record) error {
	switch a.output {
	case "json": // a line each, as programs read streams
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(w, plainJSON(string(data)))
		return err
	case "yaml":
		if _, err := fmt.Fprintln(w, "---"); err != nil {
			return err
		}
		return printYAML(w, r)
	}
	_, err := fmt.Fprintln(w, explain.Printable(a.recordText(r)))
	return err
}

func subjectsOf(records []admin.Record) (subjects []admin.Subject) {
	for _, r := range records {
		if r.Subject != nil {
			subjects = append(subjects, *r.Subject)
		}
	}
	return subjects
}

func (a *adminCLI) recordText(r admin.Record) string {
	parts := []string{r.Time.UTC().Format("2006-01-02T15:04:05.000Z"), r.Type}
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+"="+word(value))
		}
	}
	add("client", r.ClientID)
	if r.Subject != nil && r.Subject.ID != r.ClientID {
		add("user", a.usernames[r.Subject.ID])
		add("subject", r.Subject.ID)
	}
	add("target", r.Target)
	for _, c := range r.Changes {
		add("changed", strings.TrimSpace(c.Field+": "+strings.TrimSpace(c.Old+" -> "+c.New)))
	}
	add("actor", r.Actor)
	add("grant_type", r.GrantType)
	add("policy", r.Policy)
	add("scope", r.Scope)
	add("aud", strings.Join(r.Audience, " "))
	add("error", r.Error)
	add("reason", r.Reason)
	add("grant", r.GrantID)
	add("jti", r.TokenID)
	add("from", r.OriginID)
	add("pod", r.OriginPod)
	add("assertion", r.AssertionID)
	add("remote", r.Remote)
	add("request", r.RequestID)
	if r.Count > 1 {
		add("count", strconv.FormatUint(r.Count, 10))
	}
	return strings.Join(parts, " ")
}

// word quotes a value in which a reader could lose his place.
func word(s string) string {
	if strings.ContainsAny(s, " =\"\\") {
		return strconv.Quote(s)
	}
	return s
}

func (a *adminCLI) auditNodes() *cobra.Command {
	cmd := listing[admin.JournalNode]{
		list: (*admin.API).ListNodes, columns: []string{"NODE", "LAST RECORD", "AGE", "PLACE", "STATE"},
		row: func(n admin.JournalNode) []string {
			state := "expected"
			if n.Loss != nil {
				state = fmt.Sprintf("lost %d to %d", n.Loss.First, n.Loss.Last)
			}
			if n.RetiredAt != nil {
				state += ", retired"
			}
			return []string{n.Node, strconv.FormatUint(n.Seq, 10), age(n.WrittenAt, a.env.now()), n.Place, strings.TrimPrefix(state, "expected, ")}
		},
		none: "no nodes",
	}.command(a, "List the nodes whose journals the database remembers", "  signalbox audit nodes\n  signalbox audit nodes -o json")
	cmd.Use = "nodes"
	return cmd
}

func (a *adminCLI) auditRetire() *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use: "retire NODE", Short: "Say that a node will not come back", Args: oneArg("node"),
		Long: `Say that a node will not come back. From then on signalbox audit verify does not
ask for its journal, and another node may use its folder. Its records are still
proved where they are kept. A node that still runs stops when it is retired.`,
		Example:           "  signalbox audit retire sts-1_5f0c2a9e",
		ValidArgsFunction: a.nodeNames(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(fmt.Sprintf("Retire node %s? If it still runs, it stops.", args[0]), yes); err != nil {
				return err
			}
			node, err := call(cmd.Context(), a, (*admin.API).RetireNode, args[0])
			if err != nil {
				return err
			}
			a.done("node %s is retired", args[0])
			return a.showData(node)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *adminCLI) auditVerify() *cobra.Command {
	var configFile, masterKeyFile, witnessFile string
	var archived, all bool
	cmd := &cobra.Command{
		Use: "verify DIR | --config FILE", Short: "Prove that no record of a journal was removed or changed; works offline",
		Long: `Check every line of every journal in a folder, from the first to the last.

The hash chain alone shows accidents. With --master-key-file the signatures of
the checkpoints are checked too: they show a forger who computed the chain
again. If not one of them is good, the key may be a wrong one. With --config,
folder and master key come from the service's own configuration, and what the
database remembers of every node is compared as well: that shows a journal that
was cut, emptied or replaced by an older copy.
Journals of nodes on other machines are named and need not be here, unless with
--all. A node that will not come back is retired with signalbox audit retire.
With --witness the notes that a witness has kept are compared: they show also a
journal that was forged together with the database. With --archived the first
files may be kept elsewhere. The service may run and write meanwhile.`,
		Example: `  signalbox audit verify --config /etc/signalbox/signalbox.yaml
  signalbox audit verify --config /etc/signalbox/signalbox.yaml --witness /mnt/witness/heads
  signalbox audit verify --master-key-file master.key /var/lib/signalbox/journal`,
		Args: func(cmd *cobra.Command, args []string) error {
			if all && configFile == "" {
				return &usageError{errors.New("--all needs --config: the database knows which nodes there are")}
			}
			if witnessFile != "" && configFile == "" && masterKeyFile == "" {
				return &usageError{errors.New("--witness needs --config or --master-key-file: the notes of the witness are signed")}
			}
			if len(args) > 1 || (len(args) == 1) == (configFile != "") {
				return &usageError{errors.New("name the journal's folder, or --config with the service's configuration; see " + cmd.CommandPath() + " --help")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(a.output, dataForms); err != nil {
				return err
			}
			if configFile != "" {
				cfg, err := config.Load(configFile, os.Environ())
				if err != nil {
					return err
				}
				asked := progress(a.env.Err, "waiting for the database that anchors the journal")
				options, err := node.JournalProof(cmd.Context(), cfg, witnessFile)
				asked()
				if err != nil {
					return err
				}
				if options.Archived = archived; all {
					options.Elsewhere = nil
				}
				return a.verify(cfg.Journal.Dir, options)
			}
			var options verify.Options
			if masterKeyFile != "" {
				data, err := os.ReadFile(masterKeyFile)
				if err != nil {
					return notReadable(err, "the master key")
				}
				master, err := keys.ParseMasterKey(data)
				if err != nil {
					return fmt.Errorf("%s: %w", masterKeyFile, err)
				}
				if options, err = node.KeyProof(master, witnessFile); err != nil {
					return err
				}
			}
			options.Archived = archived
			return a.verify(args[0], options)
		},
	}
	cmd.Flags().StringVarP(&configFile, "config", "c", "", "the service's configuration: folder, master key and database")
	cmd.Flags().StringVar(&masterKeyFile, "master-key-file", "", "the service's master key, to check signatures too")
	cmd.Flags().BoolVar(&archived, "archived", false, "begin with the first file that is here: those before it are kept elsewhere")
	cmd.Flags().BoolVar(&all, "all", false, "with --config: the journals of all nodes must be here, not only those of this machine")
	cmd.Flags().StringVar(&witnessFile, "witness", "", "notes that a witness has kept: its file, or all its objects one after the other")
	_ = cmd.MarkFlagFilename("master-key-file")
	_ = cmd.MarkFlagFilename("witness")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

func (a *adminCLI) verify(dir string, options verify.Options) error {
	if isTerminal(a.env.Err) {
		options.Progress = func(done, total int64) {
			fmt.Fprintf(a.env.Err, "\rchecked %d of %d MiB", done>>20, total>>20)
		}
	}
	report, err := verify.Dir(dir, options)
	if options.Progress != nil {
		fmt.Fprintln(a.env.Err)
	}
	if err != nil {
		return err
	}
	if options.TornNote > 0 {
		fmt.Fprintf(a.env.Err, "the witness's last note, from line %d, is torn and was skipped\n", options.TornNote)
	}
	if a.output != "text" {
		if err := printData(a.env.Out, a.output, shownReport(report, options)); err != nil {
			return err
		}
	} else {
		for _, n := range report.Nodes {
			fmt.Fprintln(a.env.Out, explain.Printable(nodeText(n, options)))
		}
	}
	if report.NoneSigned {
		return fmt.Errorf("no checkpoint in %s is signed with this master key: is it the master key of this service? If it is, the journal was tampered with", explain.Printable(dir))
	}
	if !report.OK() {
		for _, p := range report.Problems() {
			if p.Kind != verify.Lost && p.Kind != verify.Missing {
				return fmt.Errorf("the journal in %s was tampered with or is damaged", explain.Printable(dir))
			}
		}
		return errors.New("records of the journal are missing")
	}
	return nil
}

// verified is the report as JSON shows it: its names are ours to keep, not
// those of a package.
type verified struct {
	OK         bool           `json:"ok"`
	Bytes      int64          `json:"bytes"`
	NoneSigned bool           `json:"none_signed,omitempty"` // no checkpoint has a good signature: the master key may be a wrong one
	TornNote   int            `json:"torn_note,omitempty"`   // the line at which the witness's last note begins, which is torn
	Nodes      []verifiedNode `json:"nodes"`
}

type verifiedNode struct {
	Node         string           `json:"node"`
	Segments     int              `json:"segments"`
	First        uint64           `json:"first"`
	Records      uint64           `json:"records"`
	Head         string           `json:"head,omitempty"`
	From         *time.Time       `json:"from,omitempty"`
	Until        *time.Time       `json:"until,omitempty"`
	Checkpoints  uint64           `json:"checkpoints"`
	SignedSeq    *uint64          `json:"signed_seq,omitempty"`    // missing: signatures were not checked
	AnchoredSeq  *uint64          `json:"anchored_seq,omitempty"`  // missing: there was no database
	WitnessedSeq *uint64          `json:"witnessed_seq,omitempty"` // missing: there was no witness
	Writing      int64            `json:"writing"`
	Place        string           `json:"place,omitempty"`     // where the database says that it is written
	Elsewhere    bool             `json:"elsewhere,omitempty"` // no file is here, and none need be
	RetiredAt    *time.Time       `json:"retired_at,omitempty"`
	Loss         *verifiedLoss    `json:"loss,omitempty"`
	Problem      *verifiedProblem `json:"problem,omitempty"`
}

// verifiedLoss is what was missing at a start with --accept-journal-loss.
type verifiedLoss struct {
	First  uint64    `json:"first"`
	Last   uint64    `json:"last"`
	At     time.Time `json:"at"`
	By     string    `json:"by"` // the node that continued
	Reason string    `json:"reason"`
}

type verifiedProblem struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Kind   string `json:"kind"`
	Detail string `json:"detail"`
}

func shownReport(report verify.Report, options verify.Options) verified {
	shown := verified{OK: report.OK(), Bytes: report.Bytes, NoneSigned: report.NoneSigned, TornNote: options.TornNote, Nodes: []verifiedNode{}}
	for _, n := range report.Nodes {
		node := verifiedNode{
			Node: n.Node, Segments: n.Segments, First: n.First, Records: n.Records, Head: n.Head, Checkpoints: n.Checkpoints, Writing: n.Writing,
		}
		if !n.From.IsZero() {
			node.From, node.Until = &n.From, &n.Until
		}
		if options.CheckSignature != nil {
			node.SignedSeq = &n.SignedSeq
		}
		if options.Known != nil {
			node.AnchoredSeq, node.Place, node.Elsewhere = &n.AnchoredSeq, n.Known.Place, n.Elsewhere
		}
		if options.Witnessed != nil {
			node.WitnessedSeq = &n.WitnessedSeq
		}
		if at := n.Known.RetiredAt; !at.IsZero() {
			node.RetiredAt = &at
		}
		if l := n.Known.Loss; !l.At.IsZero() {
			node.Loss = &verifiedLoss{l.First, l.Last, l.At, l.By, l.Reason}
		}
		if p := n.Problem; p != nil {
			node.Problem = &verifiedProblem{p.File, p.Line, string(p.Kind), p.Detail}
		}
		shown.Nodes = append(shown.Nodes, node)
	}
	return shown
}

func nodeText(n verify.NodeReport, options verify.Options) string {
	text := fmt.Sprintf("node %s: ", n.Node)
	known := n.Known
	if n.Problem != nil {
		switch n.Problem.Kind {
		case verify.Lost:
			text += "LOST: " + n.Problem.Detail
		case verify.Missing:
			text += "MISSING: " + n.Problem.Detail
		default:
			text += fmt.Sprintf("BROKEN after record %d: %s", n.Records, n.Problem)
			if n.Problem.Kind == verify.Removed && n.Problem.Line == 0 && !options.Archived {
				text += "; if they are archived elsewhere, add --archived"
			}
		}
		if n.Problem.Kind == verify.Lost || n.Problem.Kind == verify.Missing {
			text += fmt.Sprintf("; when this is cleared up, signalbox audit retire %s", n.Node)
		}
		return text
	}
	switch {
	case n.Elsewhere:
		return text + fmt.Sprintf("not here; its place is %s, record %d on %s: verify it there", known.Place, known.Head.Seq, moment3339(known.Head.At))
	case n.Segments == 0:
		text += fmt.Sprintf("no file is here; its last known record is %d", known.Head.Seq)
	default:
		text += fmt.Sprintf("ok, %s in %s, %s", count(n.Records-n.First+1, "record"), count(n.Segments, "file"), count(n.Checkpoints, "checkpoint"))
		if n.First > 1 {
			text += fmt.Sprintf(", beginning with record %d", n.First)
		}
		if options.CheckSignature != nil {
			text += fmt.Sprintf(", signed up to record %d", n.SignedSeq)
		}
		if options.Known != nil {
			text += fmt.Sprintf(", anchored up to record %d", n.AnchoredSeq)
		}
		if options.Witnessed != nil {
			text += fmt.Sprintf(", witnessed up to record %d", n.WitnessedSeq)
		}
		if n.Records >= n.First {
			text += fmt.Sprintf(", from %s to %s", moment3339(n.From), moment3339(n.Until))
		}
		if n.Writing > 0 {
			text += fmt.Sprintf("; %s of an unfinished line, which is being written or was cut off", count(n.Writing, "byte"))
		}
	}
	if l := known.Loss; !l.At.IsZero() {
		text += fmt.Sprintf("; records %d to %d are lost, node %s started without them on %s", l.First, l.Last, l.By, moment3339(l.At))
	}
	if !known.RetiredAt.IsZero() {
		text += "; retired on " + moment3339(known.RetiredAt)
	}
	return text
}

func moment3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }
