package cli

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/signalbox-sts/signalbox/admin"
	"github.com/signalbox-sts/signalbox/internal/jose"
)

const (
	// mostNames bounds what a long list costs: beyond it there are ids alone.
	mostNames = 200
	// namesAtOnce keeps a slow way to the service bearable.
	namesAtOnce = 8
)

// learnNames asks for the usernames of those that are users: tables and lines
// show them beside the ids. A caller who cannot read users sees ids alone.
func (a *adminCLI) learnNames(ctx context.Context, subjects ...admin.Subject) {
	if a.usernames == nil {
		a.usernames = map[string]string{}
		a.nameless = !a.mayReadUsers(ctx)
	}
	var unknown []string
	for _, s := range subjects {
		if _, known := a.usernames[s.ID]; !known && s.Kind == "user" && len(a.usernames) < mostNames && !a.nameless {
			a.usernames[s.ID] = ""
			unknown = append(unknown, s.ID)
		}
	}
	if len(unknown) == 0 {
		return
	}
	var lock sync.Mutex
	var group sync.WaitGroup
	turn := make(chan struct{}, namesAtOnce)
	for _, id := range unknown {
		turn <- struct{}{}
		group.Go(func() {
			name, _ := a.username(ctx, id) // deleted, or not to be had: the id will do
			lock.Lock()
			a.usernames[id] = name
			lock.Unlock()
			<-turn
		})
	}
	group.Wait()
}

// mayReadUsers looks at the token instead of trying: a refusal is recorded.
func (a *adminCLI) mayReadUsers(ctx context.Context) bool {
	target, err := a.target()
	if err != nil {
		return false
	}
	token, err := target.bearer(ctx)
	if err != nil {
		return false
	}
	_, claims, err := jose.InspectUnverified(token)
	if err != nil {
		return false
	}
	scope, _, err := claims.String("scope")
	return err == nil && slices.Contains(strings.Fields(scope), "users:read")
}

func (a *adminCLI) username(ctx context.Context, id string) (string, error) {
	user, err := call(ctx, a, (*admin.API).ShowUser, id)
	return user.Username, err
}

// named is an id with the username, as far as that is known.
func (a *adminCLI) named(id string) string {
	if name := a.usernames[id]; name != "" && name != id {
		return name + " (" + id + ")"
	}
	return id
}
