package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/config"
	"github.com/signalbox-sts/signalbox/internal/explain"
	"github.com/signalbox-sts/signalbox/internal/jose"
	"github.com/signalbox-sts/signalbox/internal/node"
	"github.com/signalbox-sts/signalbox/internal/oauth"
	"github.com/signalbox-sts/signalbox/internal/policy"
	"github.com/signalbox-sts/signalbox/internal/trust"
)

func newPolicy(env *Environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "policy",
		Short:   "Test, explain and list trust policies",
		Example: "  signalbox policy test policies_test.yaml --config signalbox.yaml\n  signalbox policy explain --config signalbox.yaml --cluster spoke-a",
		Args:    noSubcommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyTest(env), newPolicyExplain(env), newPolicyList(env))
	return cmd
}

// policies reads a configuration for what it says about trust, and says what a
// file cannot know.
func policies(env *Environment, file string) (*config.Config, *policy.Set, error) {
	cfg, err := config.LoadPolicies(file, os.Environ())
	if err != nil {
		return nil, nil, err
	}
	var told []string
	for _, r := range cfg.Elsewhere {
		if !slices.Contains(told, r.Name) {
			told = append(told, r.Name)
			notInFile(env, "cluster", r.Name)
		}
	}
	set, err := node.PoliciesOf(cfg)
	return cfg, set, err
}

// notInFile: what the admin API keeps is in no file.
func notInFile(env *Environment, what, name string) {
	fmt.Fprintf(env.Err, "note: the %s %s is not in this file. If the admin API keeps it, nothing more is known about it here\n", what, explain.Printable(name))
}

func hasCluster(cfg *config.Config, name string) bool {
	return slices.ContainsFunc(cfg.Clusters, func(c config.Cluster) bool { return c.Name == name })
}

func isElsewhere(cfg *config.Config, name string) bool {
	return slices.ContainsFunc(cfg.Elsewhere, func(r config.Reference) bool { return r.Name == name })
}

func newPolicyExplain(env *Environment) *cobra.Command {
	var file, tokenFile, cluster, resource, scope, client, output string
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say which trust policy applies to a token, and why no other does",
		Long: `Say which trust policy applies to a token, and why no other does: policy by
policy, key by key, with what was found and what is wanted, and the smallest
change that would allow it. Nothing is asked of a server. The token is verified
where the configuration has its issuer's key set (jwks_file), else it is only
decoded; the output says which. Whether its pod is still there is not asked.

Secrets and other files that the configuration names need not be here. Clusters,
clients and people that the admin API keeps are in no file: of those only what a
policy names is known.

The exit code is 0 if tokens would be issued, and 1 if not.`,
		Example: `  signalbox policy explain --config signalbox.yaml --cluster spoke-a --subject-token-file token.jwt
  signalbox policy explain --config signalbox.yaml --resource https://api.example.com --scope orders:write -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output, dataForms); err != nil {
				return err
			}
			switch {
			case file == "":
				return &usageError{errors.New("name a configuration with --config")}
			case (cluster == "") == (resource == ""):
				return &usageError{errors.New("say what the token is for: either --cluster or --resource")}
			}
			scopes, err := oauth.ParseScopes(scope)
			if err != nil {
				return &usageError{fmt.Errorf("--scope: %w", err)}
			}
			cfg, set, err := policies(env, file)
			if err != nil {
				return err
			}
			if cluster != "" && !hasCluster(cfg, cluster) && !isElsewhere(cfg, cluster) {
				notInFile(env, "cluster", cluster)
			}
			if client != "" && !slices.ContainsFunc(cfg.Clients, func(c config.Client) bool { return c.ClientID == client }) {
				notInFile(env, "client", client)
			}
			raw, err := readSubjectToken(env, tokenFile)
			if err != nil {
				return err
			}
			req := policy.Request{ClientID: client, Target: resource, Scopes: scopes, Explicit: cmd.Flags().Changed("scope"), Now: env.now()}
			if cluster != "" {
				req.Target = authority.ClusterAudience(cfg.Issuer, cluster)
			}
			read, err := readSubject(cmd.Context(), cfg, raw, &req)
			if err != nil {
				return err
			}
			e := set.Explain(req)
			if output != "text" {
				err = printData(env.Out, output, explained(req, read, e))
			} else {
				err = printExplanation(env.Out, req, read, e)
			}
			if err == nil && !e.Decision.Allowed() {
				return errSilent
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&file, "config", "c", "", "configuration file (YAML), as serve takes it")
	flags.StringVar(&tokenFile, "subject-token-file", subjectTokenFile, "file with the token that proves who asks; - for standard input")
	flags.StringVar(&cluster, "cluster", "", "name of the cluster that the token is for")
	flags.StringVar(&resource, "resource", "", "resource that the token is for")
	flags.StringVar(&scope, "scope", "", "scopes, separated by spaces; without it, all that the policy gives")
	flags.StringVar(&client, "client-id", "", "client that asks; without it, the workload itself, or for one of our own tokens its client")
	outputFlag(cmd, flags, &output, dataForms)
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
	return cmd
}

// The ways in which a subject token was read.
const (
	readVerified = "verified with the key set in the configuration"
	readDecoded  = "decoded only, NOT verified: no key set of its issuer is at hand"
	readOurs     = "decoded only, NOT verified: one of our own tokens"
)

// readSubject completes a request with what the token says.
func readSubject(ctx context.Context, cfg *config.Config, raw string, req *policy.Request) (how string, err error) {
	_, claims, err := jose.InspectUnverified(raw)
	if err != nil {
		return "", errors.New("the subject token is not a JWT")
	}
	if iss, _, _ := claims.String("iss"); iss == cfg.Issuer {
		return readOurs, readOwn(cfg, claims, req)
	}
	// Those whose keys are here verify. The others could only fetch theirs, and nothing is asked.
	verifier, others, err := verifiers(cfg, req.Now)
	if err != nil {
		return "", err
	}
	how = readVerified
	proof, err := verifier.Verify(ctx, raw)
	if refused := new(trust.Refusal); err != nil && errors.As(err, &refused) && refused.Cluster == "" && refused.TrustedIssuer == "" {
		var proofs []authority.Proof
		how = readDecoded
		switch proofs, err = others.ReadUnverified(raw); {
		case err == nil && len(proofs) > 1:
			return "", fmt.Errorf("the token may be of %s or %s, which have the same issuer: give them jwks_file, so that the signature tells", proofs[0].Cluster, proofs[1].Cluster)
		case err == nil:
			proof = proofs[0]
		}
	}
	if err != nil {
		return "", fmt.Errorf("the subject token is no proof, whatever the policies say: %s", explain.Printable(err.Error()))
	}
	req.Proof, req.Subject = &proof, authority.Subject{Issuer: cfg.Issuer, ID: proof.WorkloadID(), Kind: authority.SubjectWorkload}
	return how, nil
}

func verifiers(cfg *config.Config, now time.Time) (verifier, others *trust.Verifier, err error) {
	var clusters [2][]authority.Cluster
	var issuers [2][]authority.TrustedIssuer
	with := map[bool]int{true: 0, false: 1}
	for _, c := range cfg.Clusters {
		cluster, err := authority.NewCluster(c.ClusterMetadata)
		if err != nil {
			return nil, nil, err
		}
		i := with[len(c.JWKS) > 0]
		clusters[i] = append(clusters[i], cluster)
	}
	for _, t := range cfg.TrustedIssuers {
		issuer, err := authority.NewTrustedIssuer(t.TrustedIssuerMetadata)
		if err != nil {
			return nil, nil, err
		}
		i := with[len(t.JWKS) > 0]
		issuers[i] = append(issuers[i], issuer)
	}
	options := trust.Options{Issuer: cfg.Issuer, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}
	verifier, others = trust.New(options), trust.New(options)
	return verifier, others, errors.Join(verifier.Use(clusters[0], issuers[0]), others.Use(clusters[1], issuers[1]))
}

// readOwn completes a request with what one of our own access tokens says.
func readOwn(cfg *config.Config, claims jose.Claims, req *policy.Request) error {
	profile, _, _ := claims.String("sub_profile")
	kind, err := authority.ParseSubjectKind(profile)
	if err != nil {
		return errors.New("the token is one of ours without a sub_profile that is known here: is it an access token?")
	}
	sub, _, _ := claims.String("sub")
	req.Subject = authority.Subject{Issuer: cfg.Issuer, ID: sub, Kind: kind}
	req.IssuedTo, _, _ = claims.String("client_id")
	req.ClientID = cmp.Or(req.ClientID, req.IssuedTo)
	for _, u := range cfg.Users {
		if kind == authority.SubjectUser && u.Sub == sub {
			req.Groups = u.Groups
		}
	}
	return nil
}

// explanation is what programs read.
type explanation struct {
	Allowed  bool                      `json:"allowed"`
	Policy   string                    `json:"policy,omitempty"`
	Scope    string                    `json:"scope,omitempty"`
	Groups   []string                  `json:"groups,omitempty"`
	TTL      authority.Seconds         `json:"ttl,omitempty"`
	Subject  string                    `json:"subject"`
	Verified bool                      `json:"verified"` // the subject token
	Target   string                    `json:"target"`
	Conflict []string                  `json:"conflict,omitempty"`
	Trials   []string                  `json:"trials,omitempty"`
	Change   string                    `json:"change,omitempty"`
	Add      *authority.PolicyMetadata `json:"add,omitempty"`
	Policies []verdict                 `json:"policies"`
}

type verdict struct {
	Policy  string  `json:"policy"`
	Applies bool    `json:"applies"`
	Trial   bool    `json:"trial"`
	Checks  []check `json:"checks"`
}

type check struct {
	Key    string `json:"key"`
	Wanted string `json:"wanted"`
	Found  string `json:"found"`
	OK     bool   `json:"ok"`
}

func explained(req policy.Request, read string, e policy.Explanation) explanation {
	d := e.Decision
	out := explanation{
		Allowed: d.Allowed(), Policy: d.Policy.Name, Scope: d.Scopes.String(), Groups: d.Policy.Groups, TTL: authority.Seconds(d.Policy.TTL),
		Subject: req.Subject.ID, Verified: read == readVerified, Target: req.Target, Trials: d.Trials, Policies: []verdict{},
	}
	if d.Conflict != [2]string{} {
		out.Conflict = d.Conflict[:]
	}
	if e.Change != nil {
		out.Change, out.Add = e.Change.Text, e.Change.Add
	}
	for _, v := range e.Verdicts {
		one := verdict{Policy: v.Policy, Applies: v.Applies, Trial: v.Trial, Checks: []check{}}
		for _, c := range v.Checks {
			one.Checks = append(one.Checks, check{c.Key, c.Wanted, c.Found, c.OK})
		}
		out.Policies = append(out.Policies, one)
	}
	return out
}

// printExplanation shows the nearest policies: those that are about somebody else
// say nothing.
func printExplanation(w io.Writer, req policy.Request, read string, e policy.Explanation) error {
	const nearest = 3
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(explain.Printable(fmt.Sprintf(format, args...)) + "\n")
	}
	d := e.Decision
	line("%s", outcome(d))
	line("subject  %s", req.Subject.ID)
	line("token    %s", read)
	line("target   %s", req.Target)
	if d.Allowed() {
		line("scope    %s", cmp.Or(d.Scopes.String(), "none"))
		line("groups   %s", cmp.Or(strings.Join(d.Policy.Groups, " "), "none"))
		line("ttl      at most %s", d.Policy.TTL)
	}
	for i, v := range e.Verdicts {
		if i == nearest && len(e.Verdicts) > nearest {
			line("")
			line("… and %s further away: -o json shows all", count(len(e.Verdicts)-nearest, "policy"))
			break
		}
		line("")
		line("%s: %s%s", v.Policy, map[bool]string{true: "applies", false: "does not apply"}[v.Applies], map[bool]string{true: ", and is on trial (mode: audit)", false: ""}[v.Trial])
		for _, c := range v.Checks {
			if c.OK {
				line("  ok  %s: %s", c.Key, c.Wanted)
			} else {
				line("  NO  %s: wanted %s, found %s", c.Key, c.Wanted, c.Found)
			}
		}
	}
	if e.Change != nil {
		line("")
		line("to allow it: %s", e.Change.Text)
	}
	if _, err := io.WriteString(w, b.String()); err != nil || e.Change == nil || e.Change.Add == nil {
		return err
	}
	return printYAML(w, []*authority.PolicyMetadata{e.Change.Add})
}

// outcome is a decision in a sentence.
func outcome(d policy.Decision) string {
	switch {
	case d.Allowed():
		return "allowed by the policy " + d.Policy.Name
	case d.Conflict != [2]string{}:
		return "refused: two policies apply, " + strings.Join(d.Conflict[:], " and ") + ", and none is picked"
	case d.Outside != "":
		return "refused: the policy " + d.Policy.Name + " does not give the scope " + d.Outside
	case len(d.Trials) > 0:
		return "refused: only policies on trial would apply: " + strings.Join(d.Trials, ", ")
	case len(d.Failed) > 0:
		return "refused: no policy applies, and `when` had no answer in " + strings.Join(d.Failed, ", ")
	default:
		return "refused: no policy applies"
	}
}
