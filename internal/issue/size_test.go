package issue

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/signalbox-sts/signalbox/internal/authority"
	"github.com/signalbox-sts/signalbox/internal/oauth"
)

// What is issued can be introspected and revoked; what could not be is not
// issued, and nothing has been spent for it.
func TestNoTokenIsLargerThanItsReaders(t *testing.T) {
	for _, format := range []authority.TokenFormat{authority.FormatJWT, authority.FormatOpaque} {
		issued, refused := 0, 0
		for size := 0; size <= 2048; size += 16 { // 8 names of up to 2 KiB
			b := newBench(t)
			a := b.decision()
			a.Target.Resources, a.Format = nil, format
			for i := range 8 {
				id := fmt.Sprintf("https://%d.example.com/%s", i, strings.Repeat("x", size))
				a.Target.Resources = append(a.Target.Resources, authority.Resource{ID: id, Format: format})
			}
			r, err := b.Issue(t.Context(), a, b.spend)
			if err != nil {
				refused++
				var e *oauth.Error
				if !errors.As(err, &e) || e.Code != oauth.InvalidTarget || !strings.Contains(e.Description, "too large") || r != (Response{}) {
					t.Fatalf("%s with names of %d: %v", format, size, err)
				}
				for _, step := range b.steps {
					if step == "spend" || step == "journal" {
						t.Fatalf("%s with names of %d: refused after %q", format, size, step)
					}
				}
				continue
			}
			issued++
			if _, err := b.Authenticate(r.AccessToken); err != nil {
				t.Fatalf("%s with names of %d: issued %d bytes that cannot be read: %v", format, size, len(r.AccessToken), err)
			}
		}
		if issued == 0 || refused == 0 {
			t.Errorf("%s: %d issued, %d refused", format, issued, refused)
		}
	}
}
