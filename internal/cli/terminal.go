package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/term"
)

// maxPasswordFile is above every password that the service takes.
const maxPasswordFile = 4 << 10

// errInterrupted is Ctrl-C or SIGTERM while a command waited for input. Every
// command reads before it changes something.
var errInterrupted = errors.New("interrupted: nothing was changed")

// input is a stream that does not outlast the command: when ctx ends, a Read
// that waits for a person or a pipe returns, so that what it would have been
// the answer to is undone, such as hidden input.
type input struct {
	ctx  context.Context
	from io.Reader
}

// Read reads in a goroutine, because nothing else can leave a read from a
// terminal. An interrupted one is left behind with a buffer of its own.
func (in input) Read(p []byte) (int, error) {
	if in.ctx.Err() != nil {
		return 0, errInterrupted
	}
	type answer struct {
		data []byte
		err  error
	}
	answers := make(chan answer, 1)
	buffer := make([]byte, len(p))
	go func() {
		n, err := in.from.Read(buffer)
		answers <- answer{buffer[:n], err}
	}()
	select {
	case a := <-answers:
		return copy(p, a.data), a.err
	case <-in.ctx.Done():
		return 0, errInterrupted
	}
}

// openInput opens a file, or standard input for -. A person at a terminal is
// told what is waited for.
func openInput(env *Environment, file, what string) (in io.Reader, name string, end func(), err error) {
	if file == "-" {
		if isTerminal(env.In) {
			fmt.Fprintf(env.Err, "waiting for %s on standard input: press Enter and Ctrl-D after it\n", what)
		}
		return env.In, "standard input", func() {}, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, "", nil, notReadable(err, what)
	}
	in = f
	if from, ok := env.In.(input); ok { // it may be a pipe
		in = input{from.ctx, f}
	}
	return in, file, func() { _ = f.Close() }, nil
}

// notReadable repeats the value only where it is a file's name for sure: somebody
// may have given the secret itself.
func notReadable(err error, what string) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: this user cannot read it", err)
	}
	return fmt.Errorf("the value given for %s is not a readable file; is it the secret itself? Then put it in a file, with mode 0600, and name that", what)
}

// readPassword takes a password from a file or standard input, without the
// line break that editors add. Spaces are part of it.
func readPassword(env *Environment, file string) (string, error) {
	in, name, end, err := openInput(env, file, "a password")
	if err != nil {
		return "", err
	}
	defer end()
	data, err := io.ReadAll(io.LimitReader(in, maxPasswordFile+1))
	if err != nil {
		return "", err
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case len(data) > maxPasswordFile:
		return "", fmt.Errorf("%s is too long for a password", name)
	case password == "":
		return "", fmt.Errorf("%s is empty", name)
	case strings.ContainsAny(password, "\r\n"):
		return "", fmt.Errorf("%s has more than one line", name)
	}
	return password, nil
}

// askHidden asks questions at a terminal that does not show what is typed, one
// after another.
func askHidden(env *Environment, prompts ...string) (answers []string, err error) {
	file, ok := fileOf(env.In)
	if !ok {
		return nil, errors.New("not a terminal")
	}
	fd := int(file.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("the terminal cannot hide what is typed, so use --password-file: %w", err)
	}
	defer func() { _ = term.Restore(fd, before) }()
	terminal := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{env.In, env.Err}, "")
	for _, prompt := range prompts {
		answer, err := terminal.ReadPassword(prompt)
		if errors.Is(err, term.ErrPasteIndicator) { // a password manager pastes
			err = nil
		}
		if err != nil {
			fmt.Fprint(env.Err, "\r\n") // no Enter has ended the line of the question
		}
		if errors.Is(err, io.EOF) { // Ctrl-C: a raw terminal makes no signal of it
			err = errInterrupted
		}
		if err != nil {
			return nil, err
		}
		answers = append(answers, answer)
	}
	return answers, nil
}

// isTerminal says whether a person sits at the other end.
func isTerminal(stream any) bool {
	file, ok := fileOf(stream)
	return ok && term.IsTerminal(int(file.Fd()))
}

func fileOf(stream any) (*os.File, bool) {
	if in, ok := stream.(input); ok {
		stream = in.from
	}
	file, ok := stream.(*os.File)
	return file, ok
}
