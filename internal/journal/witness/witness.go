package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/signalbox-sts/signalbox/internal/authority"
)

// Show sends a head to a witness.
type Show func(ctx context.Context, node string, head authority.JournalHead) error

// ToFile appends each note to a file, for a disk that this machine can only add to.
func ToFile(path string, s Signer) Show {
	return func(_ context.Context, node string, head authority.JournalHead) error {
		text, err := s.Note(node, head)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write(append([]byte("\n"), text...)) // apart from a line that was torn before
		return errors.Join(err, f.Sync(), f.Close())
	}
}

// ToURL sends each note to a web hook: POST to target. A target that ends in "/" is a
// place for objects: PUT of <target><node>/<number of the record, 20 digits>, and never
// over one that is there.
func ToURL(target *url.URL, s Signer) Show {
	client := &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context, node string, head authority.JournalHead) error {
		text, err := s.Note(node, head)
		if err != nil {
			return err
		}
		u, method := *target, http.MethodPost
		if strings.HasSuffix(u.Path, "/") {
			u.Path += fmt.Sprintf("%s/%020d", node, head.Seq)
			method = http.MethodPut
		}
		req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(text))
		if err != nil {
			return errors.New("the witness's URL cannot be asked")
		}
		req.Header.Set("Content-Type", "text/plain; charset=utf-8")
		if method == http.MethodPut {
			req.Header.Set("If-None-Match", "*")
		}
		answer, err := client.Do(req)
		var withURL *url.Error
		if errors.As(err, &withURL) { // whose query may hold a token
			err = withURL.Err
		}
		if err != nil {
			return fmt.Errorf("%s: %w", target.Host, err)
		}
		defer answer.Body.Close()
		_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 4<<10)) // so that the connection can be used again
		if answer.StatusCode/100 != 2 {
			return fmt.Errorf("%s answered %s", target.Host, answer.Status)
		}
		return nil
	}
}

// timeout is beside that of the caller's context.
const timeout = 10 * time.Second
