package cli

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signalbox-sts/signalbox/admin"
)

// exampleKey is the thumbprint of RFC 7638 §3.1, as key list shows them.
const exampleKey = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

func (a *adminCLI) keyCommand() *cobra.Command {
	return a.group("key", "Administer signing keys",
		`  signalbox key list
  signalbox key rotate ES256
  signalbox key remove `+exampleKey+`      # it has leaked`,
		a.keyList(),
		a.keyRotate(),
		a.keyRemove(),
	)
}

// keyStates are in the order of the list: what signs now comes first.
var keyStates = []string{"current", "next", "retired"}

func (a *adminCLI) keyList() *cobra.Command {
	state := ""
	cmd := listing[admin.Key]{
		list: (*admin.API).ListKeys, columns: []string{"KEY", "ALGORITHM", "STATE", "AGE", "SIGNS SINCE", "RETIRED"},
		row: func(k admin.Key) []string {
			now := a.env.now()
			return []string{k.KeyID, k.Algorithm, k.State, age(k.CreatedAt, now), age(k.PromotedAt, now), age(k.RetiredAt, now)}
		},
		arrange: func(keys []admin.Key) []admin.Key {
			keys = slices.DeleteFunc(keys, func(k admin.Key) bool { return state != "" && k.State != state })
			slices.SortStableFunc(keys, func(x, y admin.Key) int {
				return cmp.Or(cmp.Compare(slices.Index(keyStates, x.State), slices.Index(keyStates, y.State)), strings.Compare(x.Algorithm, y.Algorithm))
			})
			return keys
		},
		none: "no keys",
	}.command(a, "List signing keys: those that sign first, then the next ones, then the retired ones", "  signalbox key list --state current\n  signalbox key list -o json")
	cmd.Flags().StringVar(&state, "state", "", "only keys in this state: "+oneOfWords(keyStates))
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(keyStates, cobra.ShellCompDirectiveNoFileComp))
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return oneOf(cmd, "state", state, keyStates) }
	return cmd
}

func (a *adminCLI) keyRemove() *cobra.Command {
	cmd := a.changeCommand(change{
		use: "remove KID", example: exampleKey, short: "Emergency: remove a key now; every token that it signed is dead", of: kind{name: "key", member: "kid", complete: a.keyIDs()}, do: deleting((*admin.API).RemoveKey),
		question: "Remove key %s? Every token that it signed is dead at once.", said: "key %s is removed",
	})
	remove := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := remove(cmd, args)
		if err == nil {
			a.tellClusters(cmd.Context())
		}
		return err
	}
	return cmd
}

func (a *adminCLI) keyRotate() *cobra.Command {
	emergency := false
	cmd := &cobra.Command{
		Use: "rotate ALGORITHM", Short: "Sign with the next key from now on; no token fails", Args: oneArg("algorithm (ES256, RS256, EdDSA)"),
		Long: `Sign with the next key from now on. Tokens of the old key stay good: it is
published until the last of them has expired. For a key that has leaked use
signalbox key remove.

A next key that has been published for less than two minutes is refused, since
verifiers may not have it yet. With --emergency it signs all the same, and they
refuse its tokens until they have fetched the key set again.`,
		Example:           "  signalbox key rotate ES256",
		ValidArgsFunction: cobra.FixedCompletions([]string{"ES256", "RS256", "EdDSA"}, cobra.ShellCompDirectiveNoFileComp),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := call(cmd.Context(), a, (*admin.API).RotateKey, admin.RotateKey{Algorithm: args[0], Emergency: emergency})
			if err != nil {
				return err
			}
			if emergency {
				a.tellClusters(cmd.Context())
			}
			return a.show(key)
		},
	}
	cmd.Flags().BoolVar(&emergency, "emergency", false, "also if verifiers may not have the next key yet")
	return cmd
}

// tellClusters prints the one step for each cluster that verifies tokens by itself.
func (a *adminCLI) tellClusters(ctx context.Context) {
	clusters, _, err := readList(ctx, a, (*admin.API).ListClusters, 0)
	if err != nil {
		a.done("The clusters could not be listed (%v). Write the authentication configuration file of each that verifies by itself again: signalbox cluster trust NAME --mode jwt", err)
		return
	}
	for _, c := range clusters {
		if c.WebhookCaller == "" {
			a.done("On the control plane of %s, write its authentication configuration file again: signalbox cluster trust %s --mode jwt > /etc/kubernetes/authentication.yaml", c.Name, c.Name)
		}
	}
}
