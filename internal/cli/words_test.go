package cli

import (
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/signalbox-sts/signalbox/admin"
)

// What a command has said, such as what is still alive, is not lost with the error of the client.
func TestWordsAroundAnErrorStay(t *testing.T) {
	base, _ := url.Parse("https://sts.example.com:9090")
	a := &adminCLI{found: &adminTarget{base: base}}
	const around = "notes.txt:1:2 and what follows it is still alive: "
	for _, row := range []struct {
		inner error
		says  string
	}{
		{&admin.Error{Status: 409, Code: "conflict", Description: "no\x1b[2J", RequestID: "r1"}, "no\ufffd[2J (request r1)"},
		{&admin.UnreachedError{Err: &url.Error{Op: "Get", URL: "https://x", Err: errors.New("refused")}}, "the admin API at https://sts.example.com:9090 cannot be reached: is the service running, and is --admin-url right? (refused)"},
		{&admin.NotAPIError{StatusCode: 404, Status: "404 Not Found"}, "the admin API answered 404 Not Found: is --admin-url right?"},
		{&admin.NotAPIError{StatusCode: 200, Status: "200 OK"}, "what the admin API at https://sts.example.com:9090 answered cannot be read: is --admin-url right?"},
	} {
		if got := a.worded(fmt.Errorf(around+"%w", row.inner)); got.Error() != around+row.says {
			t.Errorf("%q", got)
		}
	}
	if err := errors.New("another"); a.worded(err) != err || a.worded(nil) != nil {
		t.Error("another error was changed")
	}
}
