package admin

import (
	"context"
	"iter"
)

// MaxPage is how many items a page has at most.
const MaxPage = 1000

// Paging says which part of a list is asked for. The zero value is the first page, of the service's own size.
type Paging struct {
	Limit int    `query:"limit" doc:"How many at most, 1 to 1000. Default 100."`
	After string `query:"after" doc:"The next of the page before."`
}

// Page is a part of a list.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"The after of the next page; missing on the last one."`
}

// Each gives the items of all pages of a list, which it asks for one after another. After an error it ends.
//
//	for client, err := range admin.Each(ctx, api.ListClients) { … }
//
// A list that takes a filter becomes one that does not in a function:
//
//	grants := func(ctx context.Context, p admin.Paging) (admin.Page[admin.Grant], error) { return api.ListGrants(ctx, filter, p) }
func Each[T any](ctx context.Context, list func(context.Context, Paging) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for part := (Paging{Limit: MaxPage}); ; {
			page, err := list(ctx, part)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if part.After = page.Next; part.After == "" {
				return
			}
		}
	}
}
