package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/explain"
)

// waiting tells a person at a terminal whom a command waits for, once that
// takes over a second. Call answered when it is over.
func waiting(w io.Writer, target string) (answered func()) {
	return progress(w, "waiting for an answer from "+target)
}

// progress tells a person at a terminal what a command does, once that takes
// over a second. Call done when it is over.
func progress(w io.Writer, what string) (done func()) {
	if !isTerminal(w) {
		return func() {}
	}
	timer := time.AfterFunc(time.Second, func() { fmt.Fprintln(w, explain.Printable(what)) })
	return func() { timer.Stop() }
}

// noAnswer says in words why target gave no answer within limit. The flag is
// where its URL comes from.
func noAnswer(err error, target, flag string, limit time.Duration) error {
	var slow net.Error
	var unknown x509.UnknownAuthorityError
	var request *url.Error
	var dial *net.OpError
	target = explain.Printable(target)
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted before %s answered", target)
	case errors.As(err, &slow) && slow.Timeout():
		return fmt.Errorf("no answer from %s within %d s: is the service well, and is %s right?", target, int(limit.Seconds()), flag)
	case errors.As(err, &unknown):
		return fmt.Errorf("the certificate of %s comes from an authority that is not known here: if the authority is your own, name the file with its certificate in SSL_CERT_FILE", target)
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%s does not speak TLS: is https in %s right?", target, flag)
	}
	if errors.As(err, &request) {
		err = request.Err // without the method and the URL once more
	}
	if errors.As(err, &dial) {
		err = dial.Err // without the address once more
	}
	cause := explain.Printable(strings.TrimPrefix(err.Error(), "tls: failed to verify certificate: x509: "))
	return fmt.Errorf("%s cannot be reached: is the service running, and is %s right? (%s)", target, flag, cause)
}
