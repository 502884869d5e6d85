//go:build linux

package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Body is what one connection of a flood sends to /token and never ends.
type Body struct {
	Name      string
	Announced int // Content-Length; zero for a body of unknown length, in chunks
	Sent      int
}

// Floods are the shapes that cost a server most: a little less than it announced
// or takes.
var Floods = []Body{
	{"1 MiB", 1 << 20, 1<<20 - 1},
	{"1 MiB in chunks", 0, 1<<20 - 1},
	{"64 KiB", 64 << 10, 64<<10 - 1},
	{"64 KiB in chunks", 0, 64<<10 - 1},
	{"4 KiB", 4 << 10, 4<<10 - 1},
}

// Flood opens connections that send body and then hold their connection until ctx
// ends. What the server answers is read and thrown away. It returns how many
// connections the server has ended before.
func Flood(ctx context.Context, addr string, connections int, body Body) (ended int) {
	var group sync.WaitGroup
	var mu sync.Mutex
	for range connections {
		group.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				return
			}
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			defer conn.Close()
			_ = body.send(conn) // a server that has heard enough closes
			_, _ = io.Copy(io.Discard, conn)
			if ctx.Err() == nil {
				mu.Lock()
				defer mu.Unlock()
				ended++
			}
		})
	}
	group.Wait()
	return ended
}

func (b Body) send(w io.Writer) error {
	length := fmt.Sprintf("Content-Length: %d", b.Announced)
	if b.Announced == 0 {
		length = "Transfer-Encoding: chunked"
	}
	if _, err := fmt.Fprintf(w, "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n%s\r\n\r\n", length); err != nil {
		return err
	}
	piece := "a=" + strings.Repeat("b", 16<<10-2)
	for left := b.Sent; left > 0; left -= len(piece) {
		piece = piece[:min(len(piece), left)]
		text := piece
		if b.Announced == 0 {
			text = fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}

// HoldFor is how long a flood holds its connections: longer than the server
// waits for a form.
const HoldFor = 7 * time.Second
