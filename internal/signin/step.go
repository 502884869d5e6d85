package signin

import (
	"net/http"
	"time"

	"github.com/signalbox-sts/signalbox/internal/httpx"
	"github.com/signalbox-sts/signalbox/internal/ui"
)

// step is one question to the person: a page that asks, and what is made of the
// answer. To add one is to write a file with a step and its name, to list it
// here, and to have the step before it lead to it.
type step struct {
	// page asks. again says what was wrong with the last answer; it is zero for the first.
	page func(flow string, st state, again problem, requestID string) ui.View
	// take looks at the answer and returns what is known then: with another
	// Step, that one is asked next; with Step done, the person is UserID and
	// has proved it by AMR. With a *problem the same step is asked again, in the
	// state before.
	//
	// A step whose answer can be guessed counts the attempts itself, before it
	// looks at the answer.
	take func(h *Handler, r *http.Request, st state, form httpx.Params, now time.Time) (state, error)
}

const (
	first = stepPassword
	done  = ""
)

var steps = map[string]step{
	stepPassword: {passwordPage, (*Handler).takePassword},
}

// flowStep is what all forms of a sign-in are sealed for.
const flowStep = "sign-in"

// state is what is known between two steps.
type state struct {
	Request
	Step   string    `json:"step"`
	UserID string    `json:"user_id,omitempty"` // who it is, by the steps so far
	Since  time.Time `json:"since,omitzero"`    // when that was known
	AMR    []string  `json:"amr,omitempty"`
}

// problem is a wrong answer.
type problem struct {
	status   int
	text     string        // for the page
	field    bool          // the problem is with what was typed
	wait     time.Duration // what the browser is told to wait
	username string        // filled in again
	reason   string        // for the journal; empty if the answer was not looked at
	userID   string        // for the journal: whose answer was wrong, if that is known
}

func (p *problem) Error() string {
	if p.reason != "" {
		return p.reason
	}
	return p.text
}
