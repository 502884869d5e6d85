package journal

import (
	"bytes"
	"os"
	"testing"
)

// plant changes a file behind the journal's back.
func plant(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	after := change(bytes.Clone(b))
	if bytes.Equal(after, b) {
		t.Fatal("nothing was planted")
	}
	if err := os.WriteFile(path, after, 0o600); err != nil {
		t.Fatal(err)
	}
}

func onLines(change func([][]byte) [][]byte) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.Join(change(bytes.SplitAfter(b, []byte("\n"))), nil) }
}

func replace(line int, old, new string) func([]byte) []byte {
	return onLines(func(l [][]byte) [][]byte {
		l[line-1] = bytes.Replace(l[line-1], []byte(old), []byte(new), 1)
		return l
	})
}

func dropLine(line int) func([]byte) []byte {
	return onLines(func(l [][]byte) [][]byte { return append(l[:line-1], l[line:]...) })
}

func swapLines(a, b int) func([]byte) []byte {
	return onLines(func(l [][]byte) [][]byte { l[a-1], l[b-1] = l[b-1], l[a-1]; return l })
}

func copyLine(from, to int) func([]byte) []byte {
	return onLines(func(l [][]byte) [][]byte {
		all := append([][]byte{}, l[:to-1]...)
		return append(append(all, l[from-1]), l[to-1:]...)
	})
}

func cutAfter(line int) func([]byte) []byte {
	return onLines(func(l [][]byte) [][]byte { return l[:line] })
}
