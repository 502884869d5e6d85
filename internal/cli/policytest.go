package cli

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/config/source"
	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/policy"
	"github.com/signalbox-sts/signalbox/internal/suggest"
)

var testForms = []string{"text", "json", "yaml", "junit"}

func newPolicyTest(env *Environment) *cobra.Command {
	var file, output string
	cmd := &cobra.Command{
		Use:   "test FILE",
		Short: "Check that trust policies allow and deny what a file of cases says",
		Long: `Check that trust policies allow and deny what a file of cases says. Nothing is
asked of a server, and no token is needed. A case names who asks (from), for what
(to), and what is expected: allow, or deny; with policy, by which one. A case for
which two policies apply fails, whatever is expected.

Secrets and other files that the configuration names need not be here. Clusters
that the admin API keeps are in no file: a case can lead to one that a policy
names, but who asks must be of a cluster of the file.

The exit code is 1 if any case fails. -o junit is for CI.`,
		Example: `  signalbox policy test policies_test.yaml --config signalbox.yaml
  signalbox policy test policies_test.yaml --config signalbox.yaml -o junit > policies.xml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{errors.New("name one file of cases; see signalbox policy test --help")}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkOutput(output, testForms); err != nil {
				return err
			}
			if file == "" {
				return &usageError{errors.New("name a configuration with --config")}
			}
			cfg, set, err := policies(env, file)
			if err != nil {
				return err
			}
			in, name, end, err := openInput(env, args[0], "cases")
			if err != nil {
				return err
			}
			defer end()
			data, err := io.ReadAll(io.LimitReader(in, source.MaxSize+1))
			if err != nil {
				return err
			}
			cases, err := readCases(name, data, cfg, env.now())
			if err != nil {
				return err
			}
			results, failed := runCases(set, cases)
			switch output {
			case "text":
				err = printResults(env.Out, results, failed)
			case "junit":
				err = printJUnit(env.Out, name, results, failed)
			default:
				err = printData(env.Out, output, results)
			}
			if err == nil && failed > 0 {
				return errSilent
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file (YAML), as serve takes it")
	outputFlag(cmd, cmd.Flags(), &output, testForms)
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

// policyCase is one case of a file.
type policyCase struct {
	name, policy string
	allow        bool
	req          policy.Request
}

// caseResult is what became of a case.
type caseResult struct {
	Name    string `json:"name"`
	Passed  bool   `json:"passed"`
	Outcome string `json:"outcome"`
	Problem string `json:"problem,omitempty"`
}

func runCases(set *policy.Set, cases []policyCase) (results []caseResult, failed int) {
	for _, c := range cases {
		e := set.Explain(c.req)
		d := e.Decision
		r := caseResult{Name: c.name, Outcome: outcome(d)}
		switch {
		case d.Conflict != [2]string{}:
			r.Problem = "two policies apply, " + strings.Join(d.Conflict[:], " and ") + ": every such request is refused"
		case c.allow && !d.Allowed():
			r.Problem = "expected allow, and it is " + r.Outcome + nearestMiss(e)
		case !c.allow && d.Allowed():
			r.Problem = "expected deny, and it is " + r.Outcome
		case c.policy != "" && d.Policy.Name != c.policy:
			r.Problem = "expected the policy " + c.policy + ", and it is " + r.Outcome
		}
		if r.Passed = r.Problem == ""; !r.Passed {
			failed++
		}
		results = append(results, r)
	}
	return results, failed
}

func nearestMiss(e policy.Explanation) string {
	if len(e.Verdicts) == 0 {
		return ""
	}
	for _, c := range e.Verdicts[0].Checks {
		if !c.OK {
			return "; nearest is " + e.Verdicts[0].Policy + ", where " + c.Key + " wants " + c.Wanted + " and finds " + c.Found
		}
	}
	return ""
}

func printResults(w io.Writer, results []caseResult, failed int) error {
	var b strings.Builder
	for _, r := range results {
		if r.Passed {
			b.WriteString("ok    " + explain.Printable(r.Name) + ": " + explain.Printable(r.Outcome) + "\n")
		} else {
			b.WriteString("FAIL  " + explain.Printable(r.Name) + ": " + explain.Printable(r.Problem) + "\n")
		}
	}
	fmt.Fprintf(&b, "%s, %d failed\n", count(len(results), "case"), failed)
	_, err := io.WriteString(w, b.String())
	return err
}

// printJUnit writes what CI systems show.
func printJUnit(w io.Writer, file string, results []caseResult, failed int) error {
	type failure struct {
		Message string `xml:"message,attr"`
	}
	type testCase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Failure *failure `xml:"failure,omitempty"`
	}
	type suite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Cases    []testCase `xml:"testcase"`
	}
	s := suite{Name: explain.Printable(file), Tests: len(results), Failures: failed}
	for _, r := range results {
		c := testCase{Name: explain.Printable(r.Name), Class: "signalbox.policy"}
		if !r.Passed {
			c.Failure = &failure{explain.Printable(r.Problem)}
		}
		s.Cases = append(s.Cases, c)
	}
	text, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, xml.Header+string(text)+"\n")
	return err
}

// caseReader reads a file of cases, as strictly as a configuration is read.
type caseReader struct {
	*source.Document
	cfg *config.Config
	now time.Time
}

// readCases reads a file of cases. The error is source.Errors.
func readCases(name string, data []byte, cfg *config.Config, now time.Time) (cases []policyCase, err error) {
	d := caseReader{source.New(name, data), cfg, now}
	root := d.Root(data)
	if root != nil {
		d.keys(root, "", map[string]func(*yaml.Node, string){"tests": func(n *yaml.Node, path string) {
			if n.Kind != yaml.SequenceNode {
				d.FailNode(n, path, "expected a list, found "+source.Found(n), "start each case with a dash: `- name: …`")
				return
			}
			for i, item := range n.Content {
				cases = append(cases, d.oneCase(item, path+"["+strconv.Itoa(i)+"]"))
			}
		}})
	}
	if len(d.Errors) == 0 && len(cases) == 0 {
		d.Fail("", "there is no case in this file", "start with `tests:` and a list of cases")
	}
	if len(d.Errors) > 0 {
		return nil, d.Errors.Sorted()
	}
	return cases, nil
}

// keys reads the keys of a section: each once, and no other.
func (d caseReader) keys(n *yaml.Node, path string, known map[string]func(*yaml.Node, string)) map[string]*yaml.Node {
	var names []string
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	seen := map[string]*yaml.Node{}
	if n.Kind != yaml.MappingNode {
		d.FailNode(n, path, "expected keys, found "+source.Found(n), "its keys: "+strings.Join(names, ", "))
		return seen
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := source.Join(path, source.Clip(key.Value))
		read, ok := known[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode:
			d.FailNode(key, path, "expected a key, found "+source.Found(key), "")
		case !ok:
			fix := suggest.DidYouMean(key.Value, names)
			if fix == "" {
				fix = "known here: " + strings.Join(names, ", ")
			}
			d.FailNode(key, at, "unknown key", fix)
		case seen[key.Value] != nil:
			d.FailNode(key, at, "the key is here a second time", "keep one of the two")
		default:
			seen[key.Value] = key
			read(value, at)
		}
	}
	return seen
}

func (d caseReader) text(to *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || n.Value == "" {
			d.FailNode(n, path, "expected text, found "+source.Found(n), source.QuoteAdvice(n))
			return
		}
		*to = n.Value
	}
}

func (d caseReader) texts(to *[]string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n.Kind != yaml.SequenceNode {
			d.FailNode(n, path, "expected a list, found "+source.Found(n), "write it in brackets: [orders:read]")
			return
		}
		*to = []string{}
		for i, item := range n.Content {
			var s string
			d.text(&s)(item, path+"["+strconv.Itoa(i)+"]")
			*to = append(*to, s)
		}
	}
}

func (d caseReader) object(to *authority.ObjectRef) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		d.keys(n, path, map[string]func(*yaml.Node, string){"name": d.text(&to.Name), "uid": d.text(&to.UID)})
	}
}

const notInFileFix = "write the name of a cluster of the configuration, or of one that a policy names"

// caseFrom is who asks.
type caseFrom struct {
	authority.PolicyFrom
	pod, node authority.ObjectRef
	claims    map[string]any
}

func (d caseReader) oneCase(n *yaml.Node, path string) (c policyCase) {
	var f caseFrom
	var to authority.PolicyTo
	var expect, at string
	seen := d.keys(n, path, map[string]func(*yaml.Node, string){
		"name": d.text(&c.name), "expect": d.text(&expect), "policy": d.text(&c.policy), "now": d.text(&at),
		"from": func(n *yaml.Node, path string) {
			d.keys(n, path, map[string]func(*yaml.Node, string){
				"cluster": d.text(&f.Cluster), "namespace": d.text(&f.Namespace), "service_account": d.text(&f.ServiceAccount), "pod": d.object(&f.pod), "node": d.object(&f.node),
				"trusted_issuer": d.text(&f.TrustedIssuer), "subject": d.text(&f.Subject), "user_group": d.text(&f.UserGroup), "client": d.text(&f.Client), "on_behalf_of": d.text(&f.OnBehalfOf),
				"claims": func(n *yaml.Node, path string) {
					if n.Kind != yaml.MappingNode || n.Load(&f.claims) != nil {
						d.FailNode(n, path, "expected keys, found "+source.Found(n), "write claim: value")
					}
				},
			})
		},
		"to": func(n *yaml.Node, path string) {
			d.keys(n, path, map[string]func(*yaml.Node, string){"cluster": d.text(&to.Cluster), "resource": d.text(&to.Resource), "scopes": d.texts(&to.Scopes)})
		},
	})
	if len(d.Errors) > 0 && n.Kind != yaml.MappingNode {
		return c
	}
	fail := func(key, problem, fix string) {
		node := n
		if seen[key] != nil {
			node = seen[key]
		}
		d.FailNode(node, source.Join(path, key), problem, fix)
	}
	for _, key := range []string{"name", "from", "to", "expect"} {
		if seen[key] == nil {
			fail(key, "is missing", "add it")
		}
	}
	if c.allow = expect == "allow"; !c.allow && expect != "deny" && seen["expect"] != nil {
		fail("expect", source.Quote(expect)+" is not accepted here", "write allow or deny")
	}
	if !c.allow && c.policy != "" {
		fail("policy", "has a meaning with expect: allow only", "remove it")
	}
	if c.policy != "" && !slices.ContainsFunc(d.cfg.Policies, func(p config.Policy) bool { return p.Name == c.policy }) {
		fail("policy", "there is no policy "+source.Quote(c.policy), "write the name of one")
	}
	c.req.Now = d.now
	if at != "" {
		var err error
		if c.req.Now, err = time.Parse(time.RFC3339, at); err != nil {
			fail("now", source.Quote(at)+" is not a time", "write it like 2026-11-25T12:00:00Z")
		}
	}
	switch {
	case (to.Cluster == "") == (to.Resource == "") && seen["to"] != nil:
		fail("to", "leads to no place, or to two", "write cluster or resource")
	case to.Cluster != "":
		if !hasCluster(d.cfg, to.Cluster) && !isElsewhere(d.cfg, to.Cluster) {
			fail("to", "there is no cluster "+source.Quote(to.Cluster)+" in the configuration, and no policy leads there", notInFileFix)
		}
		c.req.Target = authority.ClusterAudience(d.cfg.Issuer, to.Cluster)
	default:
		c.req.Target = to.Resource
	}
	var err error
	c.req.Explicit = to.Scopes != nil
	if c.req.Scopes, err = oauth.ScopesOf(to.Scopes...); err != nil {
		fail("to", err.Error(), "write scopes as a request would")
	}
	if seen["from"] != nil {
		if problem := d.who(&c.req, f); problem != "" {
			fail("from", problem, "write it as a policy's from, with one service account of a cluster, one subject of a trusted issuer, a user_group or a client")
		}
	}
	return c
}

// who completes a request with what its sender would have proved.
func (d caseReader) who(req *policy.Request, f caseFrom) (problem string) {
	claims := f.claims
	if claims == nil {
		claims = map[string]any{}
	}
	own := 0
	for _, name := range []string{f.Cluster, f.TrustedIssuer, f.UserGroup, f.Client} {
		if name != "" {
			own++
		}
	}
	switch {
	case own != 1:
		return "names nobody, or two"
	case f.Cluster != "":
		i := slices.IndexFunc(d.cfg.Clusters, func(c config.Cluster) bool { return c.Name == f.Cluster })
		if i < 0 {
			return "there is no cluster " + source.Quote(f.Cluster) + " in the configuration; one that the admin API keeps is in no file"
		}
		if f.Namespace == "" || f.ServiceAccount == "" || f.Subject != "" || f.OnBehalfOf != "" {
			return "is not one service account in one namespace"
		}
		p := authority.Proof{
			Cluster: f.Cluster, Issuer: d.cfg.Clusters[i].Issuer, Subject: "system:serviceaccount:" + f.Namespace + ":" + f.ServiceAccount,
			Namespace: f.Namespace, ServiceAccount: f.ServiceAccount, Pod: f.pod, Node: f.node,
		}
		claims["iss"], claims["sub"] = p.Issuer, p.Subject
		claims["kubernetes.io"] = map[string]any{
			"namespace": p.Namespace, "serviceaccount": map[string]any{"name": p.ServiceAccount},
			"pod": map[string]any{"name": p.Pod.Name, "uid": p.Pod.UID}, "node": map[string]any{"name": p.Node.Name, "uid": p.Node.UID},
		}
		req.Proof = &p
	case f.TrustedIssuer != "":
		i := slices.IndexFunc(d.cfg.TrustedIssuers, func(t config.TrustedIssuer) bool { return t.Name == f.TrustedIssuer })
		if i < 0 {
			return "there is no trusted issuer " + source.Quote(f.TrustedIssuer)
		}
		if f.Subject == "" || f.Namespace != "" || f.ServiceAccount != "" || f.OnBehalfOf != "" {
			return "is not one subject"
		}
		req.Proof = &authority.Proof{TrustedIssuer: f.TrustedIssuer, Issuer: d.cfg.TrustedIssuers[i].Issuer, Subject: f.Subject}
		claims["iss"], claims["sub"] = req.Proof.Issuer, f.Subject
	case f.UserGroup != "":
		req.ClientID, req.IssuedTo, req.Groups = "somebody", "somebody", []string{f.UserGroup}
		req.Subject = authority.Subject{Issuer: d.cfg.Issuer, ID: "somebody", Kind: authority.SubjectUser}
	default:
		kind, err := authority.ParseSubjectKind(f.OnBehalfOf)
		if err != nil {
			return "says not for what kind of subject the client acts: on_behalf_of is user, workload or client"
		}
		req.ClientID, req.Subject = f.Client, authority.Subject{Issuer: d.cfg.Issuer, ID: "somebody", Kind: kind}
	}
	if req.Proof != nil {
		text, err := json.Marshal(claims)
		if err != nil {
			return "has claims that no token can have"
		}
		req.Proof.Claims = text
		req.Subject = authority.Subject{Issuer: d.cfg.Issuer, ID: req.Proof.WorkloadID(), Kind: authority.SubjectWorkload}
	} else if f.claims != nil {
		return "has claims, but no proof of others"
	}
	return ""
}
