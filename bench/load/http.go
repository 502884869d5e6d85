//go:build linux

package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

var (
	crlf      = []byte("\r\n")
	headerEnd = []byte("\r\n\r\n")
)

// parse reads one HTTP/1.1 answer (RFC 9112) and reports whether it is complete. A
// chunked body is joined in place, inside b.
func parse(b []byte) (r Response, whole bool, err error) {
	end := bytes.Index(b, headerEnd)
	if end < 0 {
		return r, false, nil
	}
	head, rest := b[:end], b[end+4:]
	line, fields, _ := bytes.Cut(head, crlf)
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return r, false, fmt.Errorf("not an HTTP/1.1 answer: %.40q", line)
	}
	if r.Status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return r, false, fmt.Errorf("bad status line %.40q", line)
	}
	length, chunked := -1, false
	for len(fields) > 0 {
		var f []byte
		f, fields, _ = bytes.Cut(fields, crlf)
		name, value, _ := bytes.Cut(f, []byte(":"))
		switch len(name) { // a cheap first check: most fields are neither
		case len("Content-Length"):
			if bytes.EqualFold(name, []byte("Content-Length")) {
				if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 {
					return r, false, errors.New("bad Content-Length")
				}
			}
		case len("Transfer-Encoding"):
			if bytes.EqualFold(name, []byte("Transfer-Encoding")) {
				chunked = true
			}
		case len("Connection"):
			if bytes.EqualFold(name, []byte("Connection")) && bytes.EqualFold(bytes.TrimSpace(value), []byte("close")) && r.Status == 200 {
				return r, false, errors.New("the server wants to close the connection")
			}
		}
	}
	switch {
	case chunked:
		r.Body, whole, err = unchunk(rest)
		return r, whole, err
	case length < 0:
		return r, false, errors.New("answer without a length")
	case len(rest) < length:
		return r, false, nil
	case len(rest) > length:
		return r, false, errors.New("more bytes than the answer's length")
	}
	r.Body = rest
	return r, true, nil
}

// unchunk looks for the end first and joins only a complete body, since an
// incomplete one is parsed again with the next bytes.
func unchunk(b []byte) (body []byte, whole bool, err error) {
	for pass := range 2 {
		rest, out := b, 0
		for {
			line, after, ok := bytes.Cut(rest, crlf)
			if !ok {
				return nil, false, nil
			}
			size, err := strconv.ParseUint(string(line), 16, 32)
			if err != nil {
				return nil, false, fmt.Errorf("bad chunk size %.20q", line)
			}
			if uint64(len(after)) < size+2 {
				return nil, false, nil
			}
			if !bytes.Equal(after[size:size+2], crlf) {
				return nil, false, errors.New("chunk without an end")
			}
			if size == 0 {
				break
			}
			if pass == 1 {
				copy(b[out:], after[:size])
				out += int(size)
			}
			rest = after[size+2:]
		}
		body = b[:out]
	}
	return body, true, nil
}
