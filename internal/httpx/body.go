package httpx

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/signalbox-sts/signalbox/internal/oauth"
)

const (
	// MaxBody is the longest request body that is read at all.
	MaxBody = 1 << 20
	// bodyTime is how long a caller may take to send one.
	bodyTime = 15 * time.Second
	// smallBody is how much is read without asking whether there is room. Nearly
	// every form fits in, and how many there are at a time is bounded elsewhere: so
	// a flood of large bodies does not stop the honest.
	smallBody = 4 << 10
)

var (
	errFormTooLarge = oauth.Errorf(oauth.InvalidRequest, "the request body is larger than 64 KiB")
	errBodyTooLarge = oauth.Errorf(oauth.InvalidRequest, "the request body is larger than 1 MiB")
	errSlow         = oauth.Errorf(oauth.InvalidRequest, "the request body did not arrive in time")
	errNoRoom       = oauth.Errorf(oauth.TemporarilyUnavailable, "too many large requests at once, try again")
)

// Room bounds what all requests of a listener together keep of their bodies in
// memory. The zero Room has none, so that only small bodies are read.
type Room struct{ left atomic.Int64 }

// NewRoom makes room for so many bytes.
func NewRoom(bytes int64) *Room {
	room := new(Room)
	room.left.Store(bytes)
	return room
}

func (room *Room) take(n int) bool {
	if room.left.Add(-int64(n)) >= 0 {
		return true
	}
	room.left.Add(int64(n))
	return false
}

// take asks for room until the request is over. Outside a server there is enough.
func (req *Request) take(n int) bool {
	if req.Room != nil && !req.Room.take(n) {
		return false
	}
	req.taken += n
	return true
}

// Release gives back the room of a request that is over.
func (req *Request) Release() {
	if req.Room != nil {
		req.Room.left.Add(int64(req.taken))
	}
	req.taken = 0
}

// ReadBody reads a body of at most MaxBody.
func ReadBody(r *http.Request) ([]byte, error) {
	return readWithin(bodyTime, r, MaxBody, errBodyTooLarge)
}

// readWithin reads a body that must arrive in time. Only a connection whose body
// did is used again: after an error the deadline stays, so that net/http does not
// wait for the rest either.
func readWithin(limit time.Duration, r *http.Request, most int, tooLarge error) ([]byte, error) {
	w := RequestOf(r.Context()).Writer
	if w == nil || r.ContentLength == 0 {
		return read(r, most, tooLarge)
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(limit)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	body, err := read(r, most, tooLarge)
	if err != nil {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		return nil, err
	}
	if err := control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	return body, nil
}

func read(r *http.Request, most int, tooLarge error) ([]byte, error) {
	announced := r.ContentLength
	switch {
	case announced > int64(most):
		return nil, tooLarge
	case announced >= 0 && announced <= smallBody:
		body := make([]byte, announced)
		_, err := io.ReadFull(r.Body, body)
		return body, unread(err)
	}
	// What a caller announces is not reserved: a thousand connections that announce
	// much and send nothing must cost nothing.
	req, size := RequestOf(r.Context()), smallBody
	if !req.take(size) {
		return nil, errNoRoom
	}
	body := make([]byte, 0, size)
	for {
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case len(body) > most:
			return nil, tooLarge
		case err == io.EOF && announced >= 0 && int64(len(body)) < announced:
			return nil, unread(io.ErrUnexpectedEOF)
		case err == io.EOF:
			return body, nil
		case err != nil:
			return nil, unread(err)
		case len(body) == cap(body):
			size = min(2*size, most+1)
			if !req.take(size - cap(body)) {
				return nil, errNoRoom
			}
			larger := make([]byte, len(body), size)
			copy(larger, body)
			body = larger
		}
	}
}

func unread(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlow
	default:
		return oauth.Errorf(oauth.InvalidRequest, "the request body could not be read").Because(err)
	}
}
