package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/kube"
)

// checkAuditLogs: what is given twice would be counted twice.
func checkAuditLogs(files []string, inputIsTaken bool) error {
	for i, file := range files {
		switch {
		case file == "":
			return &usageError{errors.New("--audit-log needs the name of a file")}
		case slices.Contains(files[:i], file):
			return &usageError{fmt.Errorf("--audit-log %s is given twice", file)}
		case file == "-" && inputIsTaken:
			return &usageError{errors.New("standard input cannot be the token and an audit log: give the token with --token-file, or its jti")}
		}
	}
	return nil
}

// whyInLogs prints an answer of why with what the logs add to it.
func (a *adminCLI) whyInLogs(ctx context.Context, why admin.Why, files []string) error {
	told, err := a.tell(ctx, why, files)
	if err != nil {
		return err
	}
	if a.output != "text" {
		return printData(a.env.Out, a.output, told)
	}
	why.Records = nil // the story has them
	if err := a.printWhy(ctx, why); err != nil {
		return err
	}
	return a.printStory(told)
}

// story joins an answer of why with the audit logs of API servers, by the ids of tokens.
type story struct {
	admin.Why
	Story []step     `json:"story"`      // oldest first
	Logs  []auditLog `json:"audit_logs"` // that were read
}

// step is one thing that happened to the token, or to a token that it came from.
type step struct {
	What   string           `json:"what"` // issued, exchanged, used, more, or the type of a record
	Token  string           `json:"token"`
	Time   time.Time        `json:"time"`
	Log    string           `json:"audit_log,omitempty"`
	Event  *kube.AuditEvent `json:"event,omitempty"`
	Record *admin.Record    `json:"record,omitempty"`
	Count  int              `json:"count,omitempty"` // of more: how many later requests are not listed
}

type auditLog struct {
	File string `json:"file"`
	kube.AuditLogRead
}

// most is how many requests with one token are told one by one.
const most = 25

// tell finds what happened to the token that why is about.
func (a *adminCLI) tell(ctx context.Context, why admin.Why, files []string) (story, error) {
	chain, err := a.chain(ctx, why)
	if err != nil {
		return story{}, err
	}
	told := story{Why: why, Story: []step{}}
	var ids []string
	for _, link := range chain {
		ids = append(ids, link.id)
	}
	for _, file := range files {
		read, err := a.readAuditLog(ctx, file, ids, func(e kube.AuditEvent) error {
			for i := range chain {
				chain[i].saw(e, file)
			}
			return nil
		})
		if err != nil {
			return story{}, err
		}
		told.Logs = append(told.Logs, auditLog{file, read})
	}
	// Causes before effects: the clocks of clusters differ.
	for _, link := range chain {
		told.Story = append(told.Story, link.steps()...)
	}
	return told, nil
}

// link is one token of the chain from the proof to the token in question.
type link struct {
	id      string
	issued  *step // by an API server
	records []admin.Record
	used    []step // the oldest, at most most of them
	uses    int
	last    time.Time           // when it was used last
	long    map[string]struct{} // audit ids of answers whose end was not seen yet
}

// chain lists the tokens that the one in question came from, the oldest first, and that one itself.
func (a *adminCLI) chain(ctx context.Context, why admin.Why) ([]*link, error) {
	id := why.Key
	if why.Token != nil {
		id = why.Token.TokenID
	}
	if id == "" || why.Kind != "token" && why.Kind != "unknown" {
		return nil, errors.New("audit logs name tokens: give an access token, or the jti of one")
	}
	chain := []*link{{id: id, records: why.Records}}
	for len(chain) <= authority.MaxLineage {
		origin := chain[0].origin()
		if origin == "" {
			break
		}
		before := &link{id: origin}
		if _, err := authority.ParseID(origin); err == nil { // a token of ours
			earlier, err := call(ctx, a, (*admin.API).Why, origin)
			if err != nil {
				return nil, err
			}
			before.records = earlier.Records
		}
		chain = append([]*link{before}, chain...)
	}
	return chain, nil
}

// origin is the id of the token that was exchanged for this one.
func (l *link) origin() string {
	for _, r := range l.records {
		if r.Type == string(authority.EventTokenIssued) && r.TokenID == l.id {
			return r.OriginID
		}
	}
	return ""
}

// saw takes an event of an audit log, if it is about this token.
func (l *link) saw(e kube.AuditEvent, file string) {
	if e.Issued == l.id && l.issued == nil {
		l.issued = &step{What: "issued", Token: l.id, Time: e.Time, Log: file, Event: &e}
	}
	if e.Used != l.id {
		return
	}
	switch _, begun := l.long[e.AuditID]; {
	case e.Stage == "RequestReceived": // its answer follows
		return
	case begun: // the end of a watch
		for i := range l.used {
			if l.used[i].Event.AuditID == e.AuditID {
				l.used[i].Event = &e
			}
		}
		return
	case e.Stage == "ResponseStarted" && len(l.long) < 10_000:
		if l.long == nil {
			l.long = map[string]struct{}{}
		}
		l.long[e.AuditID] = struct{}{}
	}
	l.uses++
	if e.Time.After(l.last) {
		l.last = e.Time
	}
	at, _ := slices.BinarySearchFunc(l.used, e.Time, func(s step, t time.Time) int { return cmp.Or(s.Time.Compare(t), -1) })
	if at < most {
		l.used = slices.Insert(l.used, at, step{What: "used", Token: l.id, Time: e.Time, Log: file, Event: &e})
		l.used = l.used[:min(len(l.used), most)]
	}
}

// steps is what happened to one token, in order.
func (l *link) steps() (steps []step) {
	if l.issued != nil {
		steps = append(steps, *l.issued)
	}
	later := l.used
	for _, r := range slices.Backward(l.records) {
		s := step{What: r.Type, Token: l.id, Time: r.Time, Record: &r}
		if r.Type != string(authority.EventTokenIssued) {
			later = append(later, s)
			continue
		}
		if s.What = "issued"; r.OriginHash != "" {
			s.What = "exchanged"
		}
		steps = append(steps, s)
	}
	slices.SortStableFunc(later, func(x, y step) int { return x.Time.Compare(y.Time) })
	steps = append(steps, later...)
	if rest := l.uses - len(l.used); rest > 0 {
		steps = append(steps, step{What: "more", Token: l.id, Time: l.last, Count: rest})
	}
	return steps
}

// readAuditLog reads a log, or standard input, and says how far it is and what could not be read.
func (a *adminCLI) readAuditLog(ctx context.Context, file string, ids []string, found func(kube.AuditEvent) error) (kube.AuditLogRead, error) {
	in, name := a.env.In, "standard input"
	size := int64(0)
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return kube.AuditLogRead{}, err
		}
		defer opened.Close()
		if info, err := opened.Stat(); err == nil {
			size = info.Size()
		}
		in, name = opened, file
	}
	if isTerminal(a.env.Err) {
		in = &counted{Reader: in, now: a.env.now, began: a.env.now(), tell: func(done int64) {
			text := fmt.Sprintf("read %d MiB of %s", done>>20, name)
			if size > 0 {
				text = fmt.Sprintf("read %d of %d MiB of %s", done>>20, size>>20, name)
			}
			a.done("%s", text)
		}}
	}
	read, err := kube.FindInAuditLog(ctx, in, ids, found)
	switch {
	case err != nil:
		return read, fmt.Errorf("%s: %w", explain.Printable(name), err)
	case read.Events == 0 && read.Unread > 0:
		return read, fmt.Errorf("%s is no audit log of an API server: not one line is an event of audit.k8s.io/v1", explain.Printable(name))
	case read.Unread > 0:
		a.done("warning: %s of %s cannot be read, the first is line %d: what they say is missing here", count(read.Unread, "line"), name, read.FirstUnread)
	}
	return read, nil
}

// counted tells how much of it has been read, about every second.
type counted struct {
	io.Reader
	now   func() time.Time
	began time.Time
	done  int64
	tell  func(done int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.done += int64(n)
	if now := c.now(); now.Sub(c.began) > time.Second {
		c.began = now
		c.tell(c.done)
	}
	return n, err
}

// printStory writes what happened in words, one step a line.
func (a *adminCLI) printStory(s story) error {
	var b strings.Builder
	b.WriteString("\nwhat happened, oldest first:\n")
	for _, step := range s.Story {
		b.WriteString("  " + explain.Printable(step.Time.UTC().Format("2006-01-02T15:04:05.000Z")+"  "+a.stepText(step)) + "\n")
	}
	if len(s.Story) > 0 {
		_, err := io.WriteString(a.env.Out, b.String())
		if err != nil {
			return err
		}
	}
	for _, missing := range s.missing() {
		a.done("%s", missing)
	}
	return nil
}

// missing says what no log tells, and which log would.
func (s story) missing() (texts []string) {
	used := false
	var issued []string
	for _, step := range s.Story {
		switch {
		case step.What == "used" || step.What == "more":
			used = true
		case step.What == "issued" && step.Event != nil:
			issued = append(issued, step.Token)
		}
	}
	for _, step := range s.Story {
		if step.What != "exchanged" || step.Record.OriginPod == "" || slices.Contains(issued, step.Record.OriginID) {
			continue
		}
		if step.Record.OriginID == "" {
			texts = append(texts, "the proof has no id: no audit log can say who got it")
			continue
		}
		texts = append(texts, "no log says who got the proof JTI="+step.Record.OriginID+": give the audit log of the pod's cluster")
	}
	if !used {
		texts = append(texts, "no log has a request that was made with it: give the audit log of the cluster that it is for")
	}
	return texts
}

func (a *adminCLI) stepText(s step) string {
	var text string
	switch {
	case s.What == "more":
		return "… until then used for " + count(s.Count, "more request")
	case s.Record != nil && s.What == "exchanged":
		r := s.Record
		text = "exchanged"
		if r.OriginPod != "" {
			text += " by pod " + r.OriginPod
		} else if r.ClientID != "" && !strings.HasPrefix(r.ClientID, authority.PolicyClientPrefix) {
			text += " by client " + r.ClientID
		}
		if len(r.Audience) > 0 {
			text += " for " + placeText(r.Audience[0], r.Audience[1:])
		}
		if r.Policy != "" {
			text += ", allowed by policy " + r.Policy
		}
		return text + ": JTI=" + s.Token + " (request " + r.RequestID + ", node " + r.Node + ")"
	case s.Record != nil && s.What == "issued":
		r := s.Record
		return "issued to client " + r.ClientID + ": JTI=" + s.Token + " (request " + r.RequestID + ", node " + r.Node + ")"
	case s.Record != nil:
		return a.recordWords(*s.Record)
	case s.What == "issued":
		e := s.Event
		text = "issued to service account " + slashed(e.Object.Namespace, e.Object.Name)
		if e.Pod != "" {
			text = "issued to pod " + slashed(e.Object.Namespace, e.Pod) + " of service account " + e.Object.Name
		}
		text += ", asked for by " + e.Username + ": JTI=" + s.Token
	default:
		text = "used: " + requestText(*s.Event)
	}
	if len(s.Event.SourceIPs) > 0 {
		text += ", from " + s.Event.SourceIPs[0]
	}
	return text + " (" + s.Log + ")"
}

// recordWords is a record without its time.
func (a *adminCLI) recordWords(r admin.Record) string {
	_, text, _ := strings.Cut(a.recordText(r), " ")
	return text
}

// placeText names the cluster that a token is for, or the resource.
func placeText(aud string, more []string) string {
	if _, cluster, is := strings.Cut(aud, "/clusters/"); is && len(more) == 0 {
		return "cluster " + cluster
	}
	return strings.Join(append([]string{aud}, more...), " and ")
}

// requestText is a request as its cluster has it: verb, object, answer.
func requestText(e kube.AuditEvent) string {
	what := e.Path
	if o := e.Object; o.Resource != "" {
		what = o.Resource
		if o.Subresource != "" {
			what += "/" + o.Subresource
		}
		if o.Group != "" {
			what += "." + o.Group
		}
		if name := slashed(o.Namespace, o.Name); name != "" {
			what += " " + name
		}
	}
	text := e.Verb + " " + what
	switch {
	case e.Code != 0:
		text += ", answered " + strconv.Itoa(e.Code)
	case e.Stage == "ResponseStarted":
		text += ", still going on"
	}
	return text
}

func slashed(namespace, name string) string {
	return strings.Trim(namespace+"/"+name, "/")
}
