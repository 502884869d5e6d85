package trust

import (
	"errors"
	"fmt"
	"strconv"
)

// Refusal says why a token of another issuer is no proof. Every error of Verify is one.
type Refusal struct {
	// Public is for whoever sent the token. It is precise only where the signature is good: then
	// the sender has had the token from its issuer and may know what is wrong with it.
	Public string
	// Cluster or TrustedIssuer is whose key has signed the token; both are empty while nobody
	// knows.
	Cluster, TrustedIssuer string
	// Unavailable says that the token may be good, but that the keys which would tell cannot be
	// had right now. It is a failure on our side, and worth another try.
	Unavailable bool

	reason error
}

// Error is for the journal and the log: the public text, and what exactly was wrong.
func (r *Refusal) Error() string { return r.Public + ": " + r.reason.Error() }
func (r *Refusal) Unwrap() error { return r.reason }

// because returns the same refusal with its reason.
func (r Refusal) because(reason error) *Refusal {
	r.reason = reason
	return &r
}

// The refusals. The first three are for tokens whose signature is not known to be good, and say
// as little about what is registered here as they can.
var (
	notJWT      = Refusal{Public: "the token is not a JWT that is accepted as proof"}
	notSigned   = Refusal{Public: "the token is not signed by an issuer that is trusted here"}
	unavailable = Refusal{Public: "the keys of the token's issuer cannot be had right now, try again", Unavailable: true}

	notInTime   = Refusal{Public: "the token has expired, is not valid yet, or lives too long"}
	notForUs    = Refusal{Public: "the token is not for this service: it must have one aud, and that must be ours"}
	notOfAPod   = Refusal{Public: "the token is not bound to a pod"}
	notComplete = Refusal{Public: "the token lacks a claim, or has one of the wrong form"}
)

var (
	errOurs      = errors.New("it names us as its issuer")
	errBusy      = errors.New("too many wait for its issuer's keys")
	errGaveUp    = errors.New("the caller did not wait for its issuer's keys")
	errManyTries = errors.New("too many keys have its kid")
)

// shown is a value of a token that nobody vouches for: short, and on one line.
func shown(s string) string { return strconv.Quote(s[:min(len(s), 100)]) }

func reasonf(format string, args ...any) error { return fmt.Errorf(format, args...) }
