package httpx

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// inside is a request as the server's middleware hands it on.
func inside(room *Room, r *http.Request) (*http.Request, *Request) {
	req := &Request{Room: room}
	return r.WithContext(WithRequest(r.Context(), req)), req
}

func TestLargeBodiesShareTheRoomAndSmallOnesNeedNone(t *testing.T) { // 112
	room := NewRoom(100 << 10)
	first, held := inside(room, post(long(MaxForm)))
	if _, err := ReadForm(first); err != nil {
		t.Fatal(err)
	}
	second, _ := inside(room, post(long(MaxForm)))
	if _, err := ReadForm(second); !errors.Is(err, errNoRoom) {
		t.Fatalf("a second large body beside the first: %v", err)
	}
	body := &counted{Reader: strings.NewReader(long(MaxForm))}
	full, _ := inside(NewRoom(0), post("", func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(body), MaxForm }))
	if _, err := ReadForm(full); !errors.Is(err, errNoRoom) || body.read > 0 {
		t.Fatalf("%d bytes were read for which there is no room: %v", body.read, err)
	}
	small, _ := inside(NewRoom(0), post("grant_type=client_credentials"))
	if _, err := ReadForm(small); err != nil {
		t.Fatalf("a small form is refused while large ones take the room: %v", err)
	}
	held.Release()
	again, other := inside(room, post(long(MaxForm)))
	if _, err := ReadForm(again); err != nil {
		t.Fatalf("the room is not given back: %v", err)
	}
	other.Release()
	other.Release()
	if left := room.left.Load(); left > 100<<10 {
		t.Fatalf("%d bytes of room, more than there were", left)
	}
}

// counted counts what is read.
type counted struct {
	io.Reader
	read int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += n
	return n, err
}

func TestABodyTakesRoomAsItArrivesAndNotAsItIsAnnounced(t *testing.T) { // 112
	room := NewRoom(1 << 20)
	r, req := inside(room, post("", func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader("a=b"), broken{})), MaxForm
	}))
	if _, err := ReadForm(r); err == nil {
		t.Fatal("a body that breaks off")
	}
	if req.taken > smallBody {
		t.Fatalf("%d bytes of room for 3 that came", req.taken)
	}
}

// A server as ours: the body has a deadline of its own, and the next request on
// the same connection has another.
func TestABodyHasOneDeadline(t *testing.T) { // 112
	var read func(*http.Request) ([]byte, error)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(WithRequest(r.Context(), &Request{Writer: w}))
		if _, err := read(r); err != nil {
			Error(w, r, err)
			return
		}
		JSON(w, http.StatusOK, r.Context().Err() == nil)
	}))
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	ask := func(announced int, sent string) *http.Response {
		t.Helper()
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", announced, sent)
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(r.Body)
		return r
	}
	within := func(limit time.Duration) func(*http.Request) ([]byte, error) {
		return func(r *http.Request) ([]byte, error) { return readWithin(limit, r, MaxForm, errFormTooLarge) }
	}
	read = within(time.Minute)
	for range 2 {
		if r := ask(3, "a=b"); r.StatusCode != 200 {
			t.Fatalf("a body in time: %d", r.StatusCode)
		}
	}
	read = within(time.Nanosecond)
	r := ask(3, "a=")
	if r.StatusCode != http.StatusRequestTimeout || !r.Close {
		t.Fatalf("a body that never ends: %d, and the connection closes: %v", r.StatusCode, r.Close)
	}
	if _, err := answers.ReadByte(); !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("the connection of a slow caller stays: %v", err)
	}
}

// deadlines is a connection that notes its deadlines.
type deadlines struct {
	http.ResponseWriter
	set []time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

func TestTheDeadlineGoesWithTheBody(t *testing.T) {
	for _, row := range []struct {
		name string
		body io.Reader
		want int // deadlines that are set; the second is none
	}{
		{"a body that arrived: the handler has the time that it needs", strings.NewReader("a=b"), 2},
		{"a body that broke off: nobody waits for the rest", broken{}, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn := &deadlines{ResponseWriter: httptest.NewRecorder()}
			r := post("", func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(row.body), 3 })
			_, err := ReadForm(r.WithContext(WithRequest(r.Context(), &Request{Writer: conn})))
			if (err == nil) != (row.want == 2) || len(conn.set) != row.want || conn.set[0].IsZero() || !conn.set[len(conn.set)-1].IsZero() && row.want == 2 {
				t.Fatalf("%v, deadlines %v", err, conn.set)
			}
			if left := time.Until(conn.set[0]); left > formTime || left < 0 {
				t.Fatalf("the body may take %s", left)
			}
		})
	}
}

func TestABodyHasOneDeadlineInHTTP2Too(t *testing.T) { // 112
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(WithRequest(r.Context(), &Request{Writer: w}))
		if _, err := readWithin(time.Nanosecond, r, MaxForm, errFormTooLarge); err != nil {
			Error(w, r, err)
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	body, never := io.Pipe()
	t.Cleanup(func() { _ = never.Close() })
	r, err := server.Client().Post(server.URL, "application/x-www-form-urlencoded", body)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.ProtoMajor != 2 || r.StatusCode != http.StatusRequestTimeout {
		t.Fatalf("%s: %d", r.Proto, r.StatusCode)
	}
}
